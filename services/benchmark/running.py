"""One data set and one model of a benchmark: which images are needed, and how each unit comes to its score."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.adaptation.examples import Examples, one_hot
from services.adaptation.pictures import Pictures
from services.adaptation.recipe import SEARCH_EPOCHS, Hooks
from services.adaptation.strategies import strategy
from services.benchmark.adapting import Data, Outcome, SuiteRecipe, fitted_rows, reference, strict
from services.benchmark.knowledge import ClassKnowledge
from services.benchmark.metrics import METRICS, MetricError
from services.benchmark.parameters import BenchmarkParameters
from services.benchmark.plan import Unit, search_of
from services.benchmark.preparing import Material
from services.benchmark.protocols import Protocol
from services.benchmark.subjects import Array, Subject, Watch
from services.benchmark.uncertainty import standard_error
from services.datasets.package import Package, Stored
from services.datasets.splits import SplitError, few_shot, shortages
from services.errors import Kind, Problem

Knower = Callable[[], Mapping[str, ClassKnowledge]]
"""Brings what is known of the classes of a data set, when a protocol asks for it."""
LIMIT_SEED = 0
I = TypeVar("I", Array, Pictures, Array | Pictures)  # noqa: E741


@dataclass(frozen=True, slots=True)
class Ran:
    """What a unit came to, before it is put into a record."""

    score: float
    error_test: float
    probabilities: Array
    test_images: int
    trained_on: int = 0
    outcome: Outcome | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Draw:
    """Training images by their place in the training split; official validation images where they are used."""

    train: list[int]
    merge: bool = True
    warnings: tuple[str, ...] = ()


class Workbench:
    """One model on one data set. Images are encoded once, for all units together."""

    def __init__(
        self,
        subject: Subject,
        material: Material,
        package: Package,
        parameters: BenchmarkParameters,
        knower: Knower,
        scratch: Path,
    ) -> None:
        self._subject = subject
        self._material = material
        self._package = package
        self._parameters = parameters
        self._knower = knower
        self._scratch = scratch
        self._spec = material.spec
        self._train, self._validation = package.split("train"), package.split("val")
        self._test = limited(package.split("test"), parameters.test_limit)
        if not self._test:
            raise Problem(
                Kind.INVALID,
                "dataset-split",
                "The data set has no test images",
                f"{self._spec.name!r} has no images to measure on.",
                remedy="Upload it again with a folder or list called test.",
            )
        self._labels = [stored.sample.labels for stored in self._train]
        self._draws: dict[str, _Draw] = {}
        self._features: dict[str, Array] = {}
        self._pictures: dict[str, Pictures] = {}
        self._places: dict[str, dict[int, int]] = {}
        self._wanted: dict[str, list[Stored]] = {}

    async def run(self, unit: Unit, units: Sequence[Unit], hooks: Hooks, watch: Watch) -> Ran:
        """``units`` are all of this model and data set. Raises :class:`Problem` where ``unit`` cannot be run."""
        test = Examples(np.empty((0, 0), np.float32), [stored.sample.labels for stored in self._test])
        if unit.protocol.zero_shot:
            probs = await self._subject.zero_shot(
                self._material,
                self._package,
                self._test,
                unit.protocol,
                self._known(unit.protocol),
                reference=self._parameters.mode == "reference",
                watch=watch,
            )
            return self._scored(probs, test)
        draw = self._draw(unit)
        rows = None
        if unit.protocol.init == "language":
            rows = await self._subject.rows(self._material, unit.protocol, self._known(unit.protocol))
        trains = strategy(str(unit.protocol.method)).trains_encoder
        await self._encode(units, watch)
        if rows is not None and self._parameters.mode == "strict":
            rows = fitted_rows(rows, self._rows_of("train", self._features["train"], draw.train))
        if trains and not self._pictures:
            await asyncio.to_thread(self._decode, watch)
        outcome = await asyncio.to_thread(self._fit, unit, draw, rows, trains, hooks)
        return self._scored(outcome.probabilities, test, outcome, len(draw.train), draw.warnings)

    def _known(self, protocol: Protocol) -> Mapping[str, ClassKnowledge] | None:
        return None if protocol.knowledge is None else self._knower()

    def _fit(self, unit: Unit, draw: _Draw, rows: Array | None, trains: bool, hooks: Hooks) -> Outcome:
        inputs: Mapping[str, Array | Pictures] = self._pictures if trains else self._features
        validation = None
        if unit.shots is None and self._validation and self._parameters.mode == "strict":
            validation = Examples(inputs["val"], [stored.sample.labels for stored in self._validation])
        labels = [self._labels[place] for place in draw.train]
        train = Examples(self._rows_of("train", inputs["train"], draw.train), labels)
        test = Examples(inputs["test"], [stored.sample.labels for stored in self._test])
        recipe = self._recipe(unit, trains)
        try:
            data = Data(train, validation, test, rows, self._subject.trainable() if trains else None)
            if self._parameters.mode == "reference":
                return reference(data, recipe, hooks, merge=draw.merge)
            return strict(data, recipe, hooks)
        except SplitError as error:
            raise _too_few(f"{error}.") from error
        except FloatingPointError as error:
            raise Problem(
                Kind.INVALID,
                "training-diverged",
                "The training diverged",
                f"{error}.",
                remedy="Leave learning_rate and weight_decay out, so that they are searched.",
            ) from error
        except MemoryError as error:
            raise Problem(
                Kind.INVALID,
                "out-of-memory",
                "Memory ran out",
                "Even the smallest batch did not fit.",
                remedy="Choose a smaller model or a method that trains less.",
            ) from error

    def _recipe(self, unit: Unit, trains: bool) -> SuiteRecipe:
        parameters = self._parameters
        search, trials = search_of(parameters, trains)
        return SuiteRecipe(
            classes=len(self._spec.classes),
            multilabel=self._spec.task == "multilabel",
            learning_rate=parameters.learning_rate,
            weight_decay=parameters.weight_decay,
            seed=unit.seed,
            epochs=parameters.epochs,
            method=str(unit.protocol.method),
            options=unit.protocol.options,
            by=self._spec.metric,
            search=search,
            trials=trials,
            search_epochs=min(parameters.epochs, SEARCH_EPOCHS),
        )

    def _rows_of(self, split: str, inputs: I, places: Sequence[int]) -> I:
        """Rows of the images at ``places`` of a split, of which only those that some draw needs were kept."""
        where = self._places[split]
        rows = [where[place] for place in places]
        return inputs.rows(rows) if isinstance(inputs, Pictures) else inputs[rows]

    def _decode(self, watch: Watch) -> None:
        """Pictures as strategies take them that train an encoder: cropped once, in files of this attempt."""
        spec = self._subject.encoder.image
        assert spec is not None
        for split, samples in self._wanted.items():
            if not samples:
                continue
            self._scratch.mkdir(parents=True, exist_ok=True)
            total = len(samples)
            self._pictures[split] = Pictures.collect(
                (self._package.read(stored) for stored in samples),
                spec,
                self._scratch / f"{split}.pixels",
                self._subject.limits,
                lambda done, total=total: watch(done, total),
            )

    async def _encode(self, units: Sequence[Unit], watch: Watch) -> None:
        """Features of every image that any of ``units`` needs."""
        if self._features:
            return
        draws = []
        for unit in units:
            if unit.protocol.zero_shot:
                continue
            try:
                draws.append(self._draw(unit).train)
            except Problem:
                continue  # told when its own turn comes
        wanted = {"train": sorted({place for own in draws for place in own}), "val": []}
        if any(unit.shots is None for unit in units) and self._parameters.mode == "strict":
            wanted["val"] = list(range(len(self._validation)))
        self._places = {split: {place: row for row, place in enumerate(own)} for split, own in wanted.items()}
        self._wanted = {
            "train": [self._train[place] for place in wanted["train"]],
            "val": [self._validation[place] for place in wanted["val"]],
            "test": self._test,
        }
        for split, samples in self._wanted.items():
            if samples:
                self._features[split] = await self._extract(samples, watch)

    async def _extract(self, samples: Sequence[Stored], watch: Watch) -> Array:
        features = await self._subject.features(self._material, self._package, samples, watch)
        if not np.isfinite(features).all():
            raise Problem(
                Kind.INVALID,
                "features-not-finite",
                "The encoder puts out no numbers",
                f"{self._subject.names.encoder!r} gave NaN or infinity for images of {self._spec.name!r}.",
            )
        return features

    def _draw(self, unit: Unit) -> _Draw:
        if unit.key not in self._draws:
            self._draws[unit.key] = self._drawn(unit)
        return self._draws[unit.key]

    def _drawn(self, unit: Unit) -> _Draw:
        classes, reference = len(self._spec.classes), self._parameters.mode == "reference"
        if not self._train:
            raise _too_few(f"{self._spec.name!r} has no training images.")
        if unit.shots is None:
            alone = [name for name, count in self._counts().items() if count == 1]
            warnings: tuple[str, ...] = ()
            if alone and (reference or not self._validation):
                warnings = (f"classes with one image serve to validate only: {', '.join(alone[:5])}",)
            return _Draw(list(range(len(self._train))), warnings=warnings)
        shots = 2 if reference and unit.shots == 1 else unit.shots
        short = shortages(self._labels, classes, shots)
        told: tuple[str, ...] = ()
        if short:
            named = ", ".join(f"{self._spec.classes[label]!r} ({count})" for label, count in list(short.items())[:5])
            detail = f"{len(short)} classes have fewer training images than {shots}: {named}"
            if not reference:
                raise _too_few(f"{detail}.")
            told = (detail,)
        return _Draw(few_shot(self._labels, classes, shots, unit.seed), merge=unit.shots != 1, warnings=told)

    def _counts(self) -> dict[str, int]:
        counts = np.bincount([label for own in self._labels for label in own], minlength=len(self._spec.classes))
        return {name: int(count) for name, count in zip(self._spec.classes, counts, strict=False)}

    def _scored(
        self,
        probs: Array,
        test: Examples,
        outcome: Outcome | None = None,
        trained_on: int = 0,
        warnings: tuple[str, ...] = (),
    ) -> Ran:
        truth = np.array([own[0] for own in test.labels] if self._spec.task == "classification" else 0)
        if self._spec.task == "multilabel":
            truth = one_hot(test, len(self._spec.classes))
        scores: NDArray[np.float64] = probs.astype(np.float64)
        try:
            value = METRICS[self._spec.metric](truth, scores)
        except MetricError as error:
            raise Problem(
                Kind.INVALID,
                "metric-misfit",
                "The metric does not fit the data set",
                f"{error}.",
                pointer="/parameters/metric",
            ) from error
        if not np.isfinite(value):
            raise Problem(
                Kind.INVALID,
                "metric-undefined",
                "The metric has no value on these test images",
                f"{self._spec.metric} is not defined where only one class occurs.",
                remedy="Raise test_limit, or add test images of the other classes.",
            )
        error_test = standard_error(self._spec.metric, truth, scores)
        return Ran(value, error_test, probs, len(test), trained_on, outcome, warnings)


def limited(samples: list[Stored], most: int | None) -> list[Stored]:
    """At most ``most`` images, drawn once and the same way for every model, in the order of the set."""
    if most is None or len(samples) <= most:
        return samples
    chosen = random.Random(LIMIT_SEED).sample(range(len(samples)), most)  # noqa: S311 - a draw, not a secret
    return [samples[place] for place in sorted(chosen)]


def _too_few(detail: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "too-few-images",
        "There are too few training images",
        detail,
        pointer="/parameters/shots",
        remedy="Ask for fewer shots, or add images.",
    )


def clock(since: float, so_far: float = 0.0) -> float:
    """Seconds, to a millisecond."""
    return round(so_far + time.monotonic() - since, 3)


def as_error(problem: Problem) -> dict[str, Any]:
    """What a record says of a unit that could not be run."""
    told = {"code": problem.code, "title": problem.title, "detail": problem.detail or problem.title}
    return told | ({"remedy": problem.remedy} if problem.remedy else {})
