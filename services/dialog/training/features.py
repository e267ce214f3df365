"""The frozen encoder, run once over the texts that heads learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.catalog.card import Card
from services.errors import Kind, Problem
from services.text.tokenizer import Tokenizer

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Features:
    """One text: ``tokens (L, F) float32``, the characters each stands for, and the ``sentence`` embedding ``(D,)``."""

    tokens: NDArray[np.float32]
    offsets: tuple[tuple[int, int], ...]
    sentence: NDArray[np.float32]


class Encoder:
    """A version folder of a model whose card has the output ``tokens``, in this process."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        """Raises ``encoder-unfit`` for a model without token features."""
        card = Card.read(folder)
        if card.text is None or "tokens" not in [spec.name for spec in card.outputs]:
            raise Problem(
                Kind.INVALID,
                "encoder-unfit",
                "The encoder gives no features of tokens",
                f"Model {card.name!r} has no output `tokens`.",
                remedy="Take `minilm-l6-tokens`.",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.name, self.version = card.name, card.version
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer(folder, card.text)

    def encode(
        self, texts: Sequence[str], step: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Features]:
        """Features of each text; ``step`` is told after every batch how many are done."""
        aligned = self._tokenizer.aligned(texts)
        order = sorted(range(len(texts)), key=lambda index: len(aligned[index][0]))
        found: dict[int, Features] = {}
        for begin in range(0, len(order), _BATCH):
            batch = order[begin : begin + _BATCH]
            inputs = self._tokenizer.pack([aligned[index][0] for index in batch])
            tokens, sentences = self._session.run(["tokens", "embedding"], inputs)
            for index, row, sentence in zip(batch, tokens, sentences, strict=True):
                ids, offsets = aligned[index]
                own = np.ascontiguousarray(row[: len(ids)], np.float32)
                found[index] = Features(own, tuple(offsets), np.array(sentence, np.float32))
            step(begin + len(batch), len(order))
        return [found[index] for index in range(len(texts))]
