"""Logits to scores, scores to the best few: vectorised, no label looked at that is not answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import OutputKind
from services.classification.answers import Prediction

Array = NDArray[np.float32]


def softmax(logits: Array) -> Array:
    """Along the last axis, ``(..., C)``; safe for large logits."""
    shifted: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: Array) -> Array:
    """Element by element, without overflow."""
    scores: Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return scores


def scores_of(logits: Array, kind: OutputKind, *, multi_label: bool) -> Array:
    """Scores ``(..., C)`` of a model that itself gives ``kind``: what it gives is answered, never squashed again.

    A sigmoid's labels are scored each by itself, asked for or not. A softmax has no such scores, for its logits are
    known up to one number a picture only: with ``multi_label`` its own shares of all its labels stand, whichever labels
    were asked for.
    """
    if kind == "sigmoid":
        return sigmoid(logits)
    if multi_label:
        return np.exp(np.minimum(logits, 0)) if kind == "softmax" else sigmoid(logits)
    return softmax(logits)


def best(scores: Array, labels: Sequence[str], top_k: int, threshold: float | None) -> list[Prediction]:
    """The ``top_k`` highest of ``scores`` ``(C,)``, best first, ties by position, none below ``threshold``."""
    count = min(top_k, len(scores))
    if count < len(scores) // 8:
        # The k-th highest bounds the candidates; sorting those alone keeps ties in order.
        bound = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= bound)
        order = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
    else:
        order = np.argsort(-scores, kind="stable")[:count]
    chosen = [Prediction(labels[index], float(scores[index])) for index in order.tolist()]
    return chosen if threshold is None else [one for one in chosen if one.score >= threshold]
