"""A training set of ``unicl-lite2`` over the tiny nouns: nine synsets, three concepts with pictures."""

from __future__ import annotations

import numpy as np

from models.unicl.lite2.network import PhotoUniCL
from models.unicl.lite2.space import Array, Space, unit
from models.unicl.lite2.train import Recipe, fit
from models.zero_shot.nouns import Hierarchy
from tests.support import tiny_nouns

FEATURES, TEXTS = 10, 16
RECIPE = Recipe(steps=6, dim=4, metric=8, classes=3, kinds=2, concepts=2, anchors=8)
RNG = np.random.default_rng(11)
WEIGHT = RNG.standard_normal((len(tiny_nouns.CLASSES), FEATURES)).astype(np.float32)


def space() -> Space:
    """Concepts are a dog, a bat and something that WordNet does not know."""
    rng = np.random.default_rng(12)
    nouns = tiny_nouns.nouns()
    synsets = np.array(sorted(Hierarchy(nouns).classes_below(nouns.imagenet)), np.int32)

    def texts(count: int) -> Array:
        return unit(rng.standard_normal((count, TEXTS)).astype(np.float32))

    return Space(
        synsets, texts(len(synsets)), texts(len(synsets)), texts(3), np.array([3, 9, -1], np.int32),
        unit(rng.standard_normal((5, FEATURES)).astype(np.float32)), np.array([0, 0, 1, 2, 2], np.int32),
    )  # fmt: skip


def class_texts(of: Space) -> Array:
    return of.names[of.places(tiny_nouns.nouns().imagenet.astype(np.int32))]


def trained(
    weight: Array = WEIGHT,
    known: tuple[int, ...] = (0, 1, 2, 3, 4),
    recipe: Recipe = RECIPE,
) -> tuple[PhotoUniCL, list[float]]:
    nouns, own = tiny_nouns.nouns(), space()
    classifier = tiny_nouns.classifier(weight, class_texts(own)).only(np.array(known))
    return fit(own, classifier, nouns, Hierarchy(nouns), recipe)
