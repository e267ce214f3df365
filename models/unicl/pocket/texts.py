"""MiniLM embeddings of everything that training and measures say, computed once.

``python -m models.unicl.pocket.texts --data DIR --repository DIR`` reads the folder that ``build`` wrote and the
model ``minilm-l6`` of a model repository, and writes ``texts.safetensors`` beside the drawings: ``concepts (T, 384)``
with ``concept_start (C + 1,)``, ``titles (N, 384)`` and ``subcategories (S, 384)``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

BATCH = 64
MAX_TOKENS = 64


class Texts:
    """A text encoder of a model repository on ONNX Runtime: texts to unit rows, each text computed once."""

    def __init__(self, folder: Path, output: str = "embedding", threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._output = output
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # of like length, so that little is padding
        rows = [self._batch(distinct[start : start + BATCH]) for start in range(0, len(distinct), BATCH)]
        place = {text: index for index, text in enumerate(distinct)}
        embedded: NDArray[np.float32] = np.concatenate(rows)[[place[text] for text in texts]]
        return embedded

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([text.ids for text in encoded], np.int64),
            "attention_mask": np.array([text.attention_mask for text in encoded], np.int64),
        }
        rows: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        return rows


def embed(folder: Path, encoder: Texts) -> None:
    """Write ``texts.safetensors`` into the folder of a built set."""
    meta: dict[str, Any] = json.loads((folder / "pictographs.json").read_text("utf-8"))
    said: list[list[str]] = meta["texts"]
    subcategories = sorted({concept["subcategory"] for concept in meta["concepts"]})
    everything = encoder([*(text for texts in said for text in texts), *meta["titles"], *subcategories])
    count = sum(len(texts) for texts in said)
    save_file(
        {
            "concepts": everything[:count],
            "concept_start": np.cumsum([0, *(len(texts) for texts in said)]).astype(np.int32),
            "titles": everything[count : count + len(meta["titles"])],
            "subcategories": everything[count + len(meta["titles"]) :],
        },
        folder / "texts.safetensors",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of `sightline datasets build pictographs`")
    parser.add_argument("--repository", type=Path, required=True, help="model repository with minilm-l6")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    embed(options.data, Texts(options.repository / "minilm-l6" / "1", threads=options.threads))


if __name__ == "__main__":
    main()
