"""Which images a unit of a benchmark is trained on and tested on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from services.datasets.package import Package, Stored
from services.datasets.samples import Split
from services.datasets.splits import few_shot, shortages
from services.errors import Kind, Problem
from services.evaluation.plan import Unit
from services.evaluation.suites.registry import SuiteSet

LIMIT_SEED = 0
SHOWN = 5
"""Classes that a message names."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Training images by their place in the training split.

    ``merge`` false: what validates is left out of the last training too, as the toolkit does for one shot.
    """

    train: list[int]
    merge: bool = True
    warnings: tuple[str, ...] = ()


class Draws:
    """The splits of a data set, and every unit's part of the training images. Raises ``dataset-split``."""

    def __init__(self, package: Package, spec: SuiteSet, *, reference: bool, test_limit: int | None) -> None:
        self._spec = spec
        self._reference = reference
        self.train, self.validation = self._split(package, "train"), self._split(package, "val")
        self.test = limited(self._split(package, "test"), test_limit)
        self.labels = [stored.sample.labels for stored in self.train]
        self._drawn: dict[str, Draw] = {}

        if not self.test:
            raise Problem(
                Kind.INVALID,
                "dataset-split",
                "The data set has no test images",
                f"{spec.name!r} has no images to measure on.",
                remedy="Upload it again with a folder or list called test.",
            )

    def _split(self, package: Package, name: Split) -> list[Stored]:
        """Its images; only those with a label where each is to have one."""
        found = package.split(name)
        if self._spec.task == "multilabel":
            return found
        return [stored for stored in found if stored.sample.labels]

    def of(self, unit: Unit) -> Draw:
        """Raises ``too-few-images``."""
        if unit.key not in self._drawn:
            self._drawn[unit.key] = self._draw(unit)
        return self._drawn[unit.key]

    def validates(self, unit: Unit) -> bool:
        """Whether the official validation images choose the settings of ``unit``: with all images, in the clean way."""
        return unit.shots is None and bool(self.validation) and not self._reference

    def wanted(self, units: Iterable[Unit]) -> dict[Split, list[int]]:
        """The places in their splits of every image that any of ``units`` needs."""
        places: set[int] = set()
        validates = False
        for unit in units:
            if unit.protocol.zero_shot:
                continue
            validates = validates or self.validates(unit)
            try:
                places.update(self.of(unit).train)
            except Problem:
                continue  # told when its own turn comes

        return {
            "train": sorted(places),
            "val": list(range(len(self.validation))) if validates else [],
            "test": list(range(len(self.test))),
        }

    def samples(self, split: Split) -> list[Stored]:
        return {"train": self.train, "val": self.validation, "test": self.test}[split]

    def _draw(self, unit: Unit) -> Draw:
        if not self.train:
            raise too_few(f"{self._spec.name!r} has no training images.")
        if unit.shots is None:
            return Draw(list(range(len(self.train))), warnings=() if self.validates(unit) else self._alone())

        shots = 2 if self._reference and unit.shots == 1 else unit.shots
        warnings: tuple[str, ...] = ()
        short = shortages(self.labels, len(self._spec.classes), shots)
        if short:
            few = list(short.items())[:SHOWN]
            named = ", ".join(f"{self._spec.classes[label]!r} ({count})" for label, count in few)
            detail = f"{len(short)} classes have fewer training images than {shots}: {named}"
            if not self._reference:
                raise too_few(f"{detail}.")
            warnings = (detail,)  # the toolkit takes what there is

        chosen = few_shot(self.labels, len(self._spec.classes), shots, unit.seed)
        return Draw(chosen, merge=unit.shots != 1, warnings=warnings)

    def _alone(self) -> tuple[str, ...]:
        """A word on classes whose only image validates: it is learnt from in the last training alone."""
        labels = [label for own in self.labels for label in own]
        counts = np.bincount(labels, minlength=len(self._spec.classes))
        alone = [self._spec.classes[label] for label in np.flatnonzero(counts == 1)]
        if not alone:
            return ()
        return (f"{len(alone)} classes have one image, which validates: {', '.join(alone[:SHOWN])}",)


def limited(samples: list[Stored], most: int | None) -> list[Stored]:
    """At most ``most`` images, drawn once and the same way for every model, in the order of the set."""
    if most is None or len(samples) <= most:
        return samples
    chosen = random.Random(LIMIT_SEED).sample(range(len(samples)), most)  # noqa: S311 - a draw, not a secret
    return [samples[place] for place in sorted(chosen)]


def too_few(detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "too-few-images",
        "There are too few training images",
        detail,
        pointer="/parameters/shots",
        remedy="Ask for fewer shots, or add images.",
    )
