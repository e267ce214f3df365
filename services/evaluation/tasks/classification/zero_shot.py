"""Zero-shot arithmetic of ELEVATER: prompts of a class become one row, pictures are compared with the rows.

Reference: ``extract_text_features`` and ``clip_zeroshot_evaluator`` of Elevater_Toolkit_IC. The factor is a constant
100, not the model's own temperature, and the softmax goes over classes even where an image may have several.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

SCALE = 100.0


def unit(rows: NDArray[F]) -> NDArray[F]:
    """Rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), rows.dtype)


def class_rows_of(embeddings: NDArray[F]) -> NDArray[F]:
    """``(C, T, D)`` raw text embeddings to ``(C, D)``: each made unit, averaged over the texts, made unit again."""
    return unit(np.asarray(unit(embeddings).mean(axis=1), embeddings.dtype))


def softmax(logits: NDArray[F]) -> NDArray[F]:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), logits.dtype)


def zero_shot_probabilities(features: NDArray[F], rows: NDArray[F]) -> NDArray[F]:
    """``(N, D)`` raw image features and ``(C, D)`` unit rows to ``(N, C)``."""
    return softmax(np.asarray(SCALE * (unit(features) @ rows.T), features.dtype))
