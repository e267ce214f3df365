"""How likely a box shows a label that the detector has no class for, from what is known of both: pure NumPy.

Nothing here was trained on annotated photos of the label. The detector says how sure it is that something is there and
what else it may be; the region tower says how near the box lies to the label's place and to those of other names. A
logistic regression weighs a few of these; ``speed/photo_detect_fit.py`` fits it on photos that no figure is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from services.encoding.meanings import Evidence

Array = NDArray[np.float32]

FEATURES = ("objectness", "share", "cosine", "nearest", "alike", "against", "size", "behind")
"""Of a box and a label, in the order of the weights: see :func:`features`."""
LEAST = 1e-3
"""What is added before a logarithm is taken."""
SMALLEST_SHARE = -12.0


@dataclass(frozen=True, slots=True)
class Weights:
    """``features`` as :data:`FEATURES` and an intercept; ``scale`` is the inverse temperature of ``share``.

    ``examples`` weigh objectness, the cosine with the example, and the cosine less the best of any class's, with their
    intercept last.
    """

    features: tuple[float, ...]
    intercept: float
    scale: float
    examples: tuple[float, ...]

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """From the parameters of a card's pipeline."""
        weights = tuple(float(value) for value in parameters["weights"])
        examples = tuple(float(value) for value in parameters["examples"])
        if len(weights) != len(FEATURES) or len(examples) != 4:
            raise ValueError(f"weights are {len(weights)} and {len(examples)}, not {len(FEATURES)} and 4")
        return cls(weights, float(parameters["intercept"]), float(parameters["scale"]), examples)


@dataclass(frozen=True, slots=True)
class Regions:
    """The boxes of one picture: class probabilities ``scores (N, C)`` of the detector, and ``sides (N,)``, the square
    root of their area in pixels of the region tower's picture."""

    scores: Array
    sides: Array


def features(
    regions: Regions, evidence: Evidence, alike: Array, scale: float, labels: slice, hidden: NDArray[np.int64]
) -> Array:
    """``(N, L, 8)`` of the ``labels`` among the columns of ``evidence.cosines (N, M)``; the others compete.

    ``alike (L, C)``: cosines of the labels and the detector's classes. ``hidden (L,)``: a class of the detector that is
    not to be used for a label, -1 for none; for measurements.
    """
    cosines = evidence.cosines
    best = cosines.max(axis=1, keepdims=True)
    logits = scale * (cosines - best)
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted, shares = cosines[:, labels], shares[:, labels].clip(SMALLEST_SHARE)
    count = wanted.shape[1]

    table = np.empty((len(cosines), count, len(FEATURES)), np.float32)
    table[..., 1], table[..., 2], table[..., 3] = shares, wanted, evidence.nearest[:, None]
    table[..., 6] = np.log(regions.sides / 100 + 0.05)[:, None]
    table[..., 7] = wanted - best
    objectness = regions.scores.max(axis=1)
    for label in range(count):
        scores = regions.scores
        if hidden[label] >= 0:
            scores = scores.copy()
            scores[:, int(hidden[label])] = 0
            objectness = scores.max(axis=1)
        near = alike[label].clip(0)
        table[:, label, 0] = np.log(objectness + LEAST)
        table[:, label, 4] = np.log((scores * near**2).max(axis=1) + LEAST)
        table[:, label, 5] = np.log(1 + LEAST - (scores * (1 - near)).max(axis=1))
    return table


def named(table: Array, weights: Weights) -> Array:
    """Probabilities ``(N, L)`` of a :func:`features` table."""
    return _sigmoid(table @ np.array(weights.features, np.float32) + np.float32(weights.intercept))


def shown(regions: Regions, cosines: Array, nearest: Array, weights: Weights) -> Array:
    """Probabilities ``(N, E)`` that boxes show what examples show, from ``cosines (N, E)`` of both.

    ``nearest (N,)``: the highest cosine of a box with any known class.
    """
    objectness = np.log(regions.scores.max(axis=1) + LEAST)[:, None]
    first, second, third, intercept = (np.float32(value) for value in weights.examples)
    return _sigmoid(first * objectness + second * cosines + third * (cosines - nearest[:, None]) + intercept)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)
