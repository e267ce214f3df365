"""A WordNet of ten nouns over the tiny classifier's labels, and the arrays that serving reads, fitted on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.zero_shot.fit import PARAMETERS, Classifier, fit
from models.zero_shot.nouns import Hierarchy, Nouns

SYNSETS = ("thing", "animal", "cat", "dog", "fish", "fruit", "apple", "vehicle", "car", "bat")
PARENTS = ((), (0,), (1,), (1,), (1,), (0,), (5,), (0,), (7,), (1,))
CLASSES = ("cat", "dog", "fish", "apple", "car")
SIDES = np.array([16, 32, 64], np.float32)
FITTED = {**PARAMETERS, "scale": 20.0, "none": [0.0, -6.0, 6.0, 0.1], "alone": [0.0, 8.0, -2.0]}


def nouns(seed: int = 0) -> Nouns:
    """Every synset's lemma is its name; ``bat`` is also, first of all, a fruit, and ``motor-car`` a car."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((len(SYNSETS), 12))
    for child, parents in enumerate(PARENTS):  # children mean what their parents mean, and something of their own
        for parent in parents:
            vectors[child] = 0.4 * vectors[child] + vectors[parent]
    scale = np.abs(vectors).max(axis=0) / 127
    senses = {name: [(index, 0)] for index, name in enumerate(SYNSETS)}
    senses["bat"] = [(5, 0), (9, 1)]
    senses["motor-car"] = [(8, 0)]
    lemmas = sorted(senses)
    return Nouns(
        lemmas=tuple(lemmas),
        sense_start=np.cumsum([0, *(len(senses[lemma]) for lemma in lemmas)]).astype(np.uint32),
        sense_synset=np.array([synset for lemma in lemmas for synset, _ in senses[lemma]], np.uint16),
        sense_rank=np.array([rank for lemma in lemmas for _, rank in senses[lemma]], np.uint8),
        parent_start=np.cumsum([0, *map(len, PARENTS)]).astype(np.uint32),
        parent=np.array([parent for parents in PARENTS for parent in parents], np.uint16),
        vectors=np.round(vectors / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        imagenet=np.array([SYNSETS.index(name) for name in CLASSES], np.uint16),
    )


def classifier(weight: NDArray[np.float32], texts: NDArray[np.float32]) -> Classifier:
    """Over :data:`CLASSES`, without a bias."""
    return Classifier(weight, np.zeros(len(weight), np.float32), CLASSES, texts, np.arange(len(CLASSES)))


def fitted(weight: NDArray[np.float32], texts: NDArray[np.float32], **changes: float) -> dict[str, NDArray[Any]]:
    """``weight (5, F)`` and unit ``texts (5, D)`` of the classes; small pictures are shifted along all features."""
    own = nouns()
    shifts = np.outer([0.2, 0.1, 0.0], np.ones(weight.shape[1])).astype(np.float32)
    return fit(classifier(weight, texts), own, Hierarchy(own), SIDES, shifts, {**PARAMETERS, **changes})
