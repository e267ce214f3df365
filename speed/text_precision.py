"""``python -m speed.text_precision``: what int8 costs and gains the text encoder, on the names of ImageNet-1K.

Prints a table: size, CPU time a label on one thread, cosine to the exact embedding, and how often the nearest other
label stays the same. Needs both models: ``sightline models pull minilm-l6 minilm-l6-int8``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.catalog.labels import label_set
from models.repository.reading import MODEL, latest
from services.settings import Settings

BATCH = 32
REPEATS = 3


def embed(folder: Path, texts: list[str]) -> tuple[NDArray[np.float32], float]:
    """Embeddings ``(N, D)`` and the least CPU seconds a text of :data:`REPEATS` passes on one thread."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
    feeds = []
    for start in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(texts[start : start + BATCH])
        ids = np.array([each.ids for each in encoded], np.int64)
        feeds.append(
            {"input_ids": ids, "attention_mask": np.array([each.attention_mask for each in encoded], np.int64)}
        )
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        vectors = np.concatenate([session.run(["embedding"], feed)[0] for feed in feeds])
        seconds.append(time.process_time() - begin)
    return vectors, min(seconds) / len(texts)


def neighbours(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each row the index of the nearest other row."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return cosines.argmax(1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m speed.text_precision", description=__doc__)
    parser.add_argument("--exact", default="minilm-l6")
    parser.add_argument("--candidate", default="minilm-l6-int8")
    given = parser.parse_args()
    root = Settings().models_dir
    texts = [f"a photo of a {label}." for label in label_set("imagenet-1k")]
    exact: NDArray[np.float32] | None = None
    print("| model | MB | ms a label | mean cosine | least cosine | same neighbour |\n|---|---|---|---|---|---|")
    for name in (given.exact, given.candidate):
        folder = latest(root, name)
        if folder is None:
            parser.error(f"{name} is not in {root}: sightline models pull {name}")
        vectors, seconds = embed(folder, texts)
        exact = vectors if exact is None else exact
        cosines = (vectors * exact).sum(1)
        same = float((neighbours(vectors) == neighbours(exact)).mean())
        size = (folder / MODEL).stat().st_size / 1e6
        print(
            f"| {name} | {size:.1f} | {seconds * 1e3:.2f} | {cosines.mean():.4f} | {cosines.min():.4f} | {same:.3f} |"
        )


if __name__ == "__main__":
    main()
