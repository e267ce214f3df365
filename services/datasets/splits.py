"""Few-shot subsets and validation splits, image for image those of the ELEVATER toolkit.

Reference: ``DatasetManifest.sample_few_shot_subset`` of vision-datasets 0.2.17 and ``get_dataloader`` of
``vision_benchmark/evaluation/feature.py`` (Elevater_Toolkit_IC). Labels of an image are a sequence of class
indices: one for single-label sets, any number for multi-label sets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil

Labels = Sequence[Sequence[int]]


class SplitError(ValueError):
    """The set is too small to be split."""


def few_shot(labels: Labels, classes: int, shots: int, seed: int) -> list[int]:
    """Indices of a subset with about ``shots`` images of every class, in sampling order.

    Images are shuffled by ``random.Random(seed)`` and taken greedily: an image is of use while one of its
    classes is short, and is taken when its rarest class has at most half of ``shots`` or its most frequent at
    most one and a half times ``shots``. Up to ``shots`` images without a label are taken as negatives. A class
    with fewer images gives all it has, as in the reference; see :func:`shortages`.
    """
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)  # noqa: S311 - the reference's generator, not a secret
    counts = [0] * classes
    negatives = 0
    chosen: list[int] = []
    for index in order:
        own = labels[index]
        if own:
            have = [counts[label] for label in own]
            if min(have) >= shots or not (min(have) <= shots / 2 or max(have) <= 1.5 * shots):
                continue
            for label in own:
                counts[label] += 1
        elif negatives < shots:
            negatives += 1
        else:
            continue
        chosen.append(index)
        if min(counts, default=0) >= shots:
            break

    return chosen


def shortages(labels: Labels, classes: int, shots: int) -> dict[int, int]:
    """``{class: images}`` of the classes that cannot give ``shots`` images."""
    counts = [0] * classes
    for own in labels:
        for label in own:
            counts[label] += 1
    return {label: count for label, count in enumerate(counts) if count < shots}


def validation_split(labels: Labels, classes: int, fraction: float = 0.2) -> tuple[list[int], list[int]]:
    """Positions ``(train, validation)``: the first ``ceil(fraction * n)`` images of every class are for validation.

    Deterministic and in data-set order, as in the reference. For multi-label sets classes are visited in order and
    each takes the first image that has it until its share is met. Raises :class:`SplitError` when nothing would be
    left to train on.
    """
    need = [0] * classes
    for own in labels:
        for label in own:
            need[label] += 1

    need = [ceil(fraction * count) for count in need]
    multilabel = any(len(own) != 1 for own in labels)
    validation = _cover(labels, need) if multilabel else _first_of_each(labels, need)
    train = [position for position in range(len(labels)) if position not in validation]
    if not train:
        raise SplitError(
            f"a validation share of {fraction:.0%} leaves no image to train on; use at least two images a class"
        )

    return train, sorted(validation)


def _first_of_each(labels: Labels, need: list[int]) -> set[int]:
    taken: set[int] = set()
    left = need.copy()
    for position, (label,) in enumerate(labels):
        if left[label] > 0:
            left[label] -= 1
            taken.add(position)
    return taken


def _cover(labels: Labels, need: list[int]) -> set[int]:
    taken: set[int] = set()
    left = need.copy()
    for label in range(len(need)):
        for position, own in enumerate(labels):
            if left[label] <= 0:
                break
            if label in own and position not in taken:
                taken.add(position)
                for other in own:
                    left[other] -= 1
    return taken
