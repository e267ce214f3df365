"""The methods that ``speed.zero_shot`` compares, each as ``(known classes, labels) -> scores of pictures``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.zero_shot.fit import PARAMETERS, Array, Classifier, fit
from models.zero_shot.nouns import Hierarchy, Nouns
from services.classification.weight_prediction import Predictor
from speed.zero_shot_data import Pictures

Indices = NDArray[np.intp]
Texts = Callable[[Sequence[str]], Array]
"""Texts to unit embeddings ``(C, D)``."""
Method = Callable[[Indices, Sequence[str], Pictures], Array]
"""Known classes, label texts, pictures ``(B)`` to scores ``(B, C)``. Other classes are unknown to it."""

UNCALIBRATED: Mapping[str, object] = {"scale": 1.0, "none": [0.0] * 4, "alone": [0.0] * 3}
PHOTO = "a photo of a {}."


class Served:
    """What the platform serves, fitted on the known classes alone."""

    def __init__(
        self, classifier: Classifier, nouns: Nouns, sides: Array, shifts: Array, texts: Texts, **changes: float
    ) -> None:
        self._classifier, self._nouns, self._hierarchy = classifier, nouns, Hierarchy(nouns)
        self._sides, self._shifts, self._texts = sides, shifts, texts
        self._parameters = {**PARAMETERS, **changes}
        self._fitted: dict[bytes, Predictor] = {}

    def predictor(self, known: Indices) -> Predictor:
        key = known.tobytes()
        if key not in self._fitted:
            self._fitted.clear()  # each is 20 MB and splits come one after the other
            own = self._classifier.only(known)
            data = fit(own, self._nouns, self._hierarchy, self._sides, self._shifts, self._parameters)
            self._fitted[key] = Predictor(data, {**self._parameters, **UNCALIBRATED})
        return self._fitted[key]

    def rows(self, known: Indices, labels: Sequence[str]) -> Array:
        return self.predictor(known).rows(labels, self._texts(labels))

    def __call__(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        rows = self.rows(known, labels)
        logits = pictures.logits[:, known]
        return self.predictor(known).evidence(pictures.features, logits, rows, pictures.sides).cosines


class Baselines:
    """The published methods and the plain ones, on the same texts and features."""

    def __init__(self, classifier: Classifier, texts: Texts, centre: Array) -> None:
        self._weight, self._texts, self._centre = classifier.weight, texts, centre
        self._names = [PHOTO.format(name) for name in classifier.names]

    def conse(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        """Norouzi et al. 2013, arXiv 1312.5650: ten likeliest classes."""
        own, wanted = self._pair(known, labels)
        logits = pictures.logits[:, known]
        likely = np.argsort(-logits, axis=1)[:, :10]
        kept = np.take_along_axis(logits, likely, axis=1)
        share = np.exp(kept - kept.max(axis=1, keepdims=True))
        mixed = (share[:, :, None] * own[likely]).sum(axis=1)
        return unit(mixed) @ wanted.T

    def weights(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        """Softmax-weighted mean of the known rows."""
        own, wanted = self._pair(known, labels)
        share = np.exp(10 * (wanted @ own.T))
        rows = self._weight[known] - self._weight[known].mean(axis=0)
        return self._cosine(pictures, share / share.sum(axis=1, keepdims=True) @ rows)

    def ridge(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        """Kernel ridge regression on the names' embeddings."""
        own, wanted = self._pair(known, labels)
        rows = (self._weight[known] - self._weight[known].mean(axis=0)).astype(np.float64)
        kernel = np.exp(4 * (own @ own.T - 1)).astype(np.float64)
        alpha = np.linalg.solve(kernel + np.eye(len(kernel)), rows)
        return self._cosine(pictures, np.exp(4 * (wanted @ own.T - 1)) @ alpha)

    def combined(self, known: Indices, labels: Sequence[str], pictures: Pictures) -> Array:
        """Weight prediction and half of ConSE, both standardised."""
        one, other = self.weights(known, labels, pictures), self.conse(known, labels, pictures)
        return standard(one) + 0.5 * standard(other)

    def _pair(self, known: Indices, labels: Sequence[str]) -> tuple[Array, Array]:
        return self._texts([self._names[i] for i in known]), self._texts([PHOTO.format(label) for label in labels])

    def _cosine(self, pictures: Pictures, rows: Array) -> Array:
        return np.asarray(unit(pictures.features - self._centre) @ unit(rows).T, np.float32)


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12), np.float32)


def standard(scores: Array) -> Array:
    """Each picture's scores with mean 0 and deviation 1."""
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True), np.float32)


def remembered(embed: Callable[[Sequence[str]], Array]) -> Texts:
    """``embed`` with every text embedded once."""

    @cache
    def kept() -> dict[str, Array]:
        return {}

    def texts(wanted: Sequence[str]) -> Array:
        missing = sorted({text for text in wanted if text not in kept()})
        if missing:
            kept().update(zip(missing, unit(embed(missing)), strict=True))
        return np.stack([kept()[text] for text in wanted])

    return texts
