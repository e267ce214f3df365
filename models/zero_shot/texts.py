"""Texts to sentence embeddings with the pulled text encoder, for what is made offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.progress import Progress
from models.repository.reading import read_card

BATCH = 32


def embed(encoder: Path, texts: Sequence[str], progress: Progress, most_tokens: int = 96) -> NDArray[np.float32]:
    """``(N, D)`` rows as the encoder in the version folder ``encoder`` puts them out, in batches of equal length."""
    import onnxruntime
    from tokenizers import Tokenizer

    card = read_card(encoder)
    assert card.text is not None and card.embedding is not None and card.text.mask_input is not None
    tokenizer = Tokenizer.from_file(str(encoder / card.text.tokenizer))
    tokenizer.enable_truncation(most_tokens)
    tokenizer.enable_padding(pad_id=card.text.pad_id)
    session = onnxruntime.InferenceSession(str(encoder / "model.onnx"), providers=["CPUExecutionProvider"])
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    rows: list[NDArray[np.float32]] = []
    for begin in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch([texts[index] for index in order[begin : begin + BATCH]])
        feeds = {
            card.text.ids_input: np.array([one.ids for one in encoded], np.int64),
            card.text.mask_input: np.array([one.attention_mask for one in encoded], np.int64),
        }
        rows.append(session.run([card.embedding], feeds)[0])
        progress("embed texts", min(begin + BATCH, len(texts)), len(texts))
    joined = np.concatenate(rows)
    return np.asarray(joined[np.argsort(order)], np.float32)
