"""One data set and one model of a benchmark: how each unit comes to its score. Images are encoded once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.datasets.package import Package, Stored
from services.datasets.samples import Split
from services.datasets.splits import SplitError
from services.errors import Kind, Problem
from services.evaluation.adapting import Data, Outcome, reference, strict
from services.evaluation.knowledge import ClassKnowledge
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit, search_of
from services.evaluation.protocols import Protocol
from services.evaluation.reports.uncertainty import standard_error
from services.evaluation.subjects import Array, Subject, Watch
from services.evaluation.suites.draws import Draw, Draws, too_few
from services.evaluation.suites.preparing import Material
from services.finetuning.data.examples import Examples, one_hot
from services.finetuning.data.normalisation import fitted_rows
from services.finetuning.images import Pictures
from services.finetuning.memory import is_out_of_memory
from services.finetuning.recipe import SEARCH_EPOCHS, Hooks, Recipe
from services.finetuning.strategies.base import strategy
from services.metrics.classification import METRICS, MetricError

Knower = Callable[[], Mapping[str, ClassKnowledge]]
"""Brings what is known of the classes of a data set, when a protocol asks for it."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")


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


class Workbench:
    """One model on one data set; ``units`` are all that will be run, ``scratch`` a folder of the attempt."""

    def __init__(
        self,
        subject: Subject,
        material: Material,
        package: Package,
        parameters: BenchmarkParameters,
        units: Sequence[Unit],
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
        self._reference = parameters.mode == "reference"
        self._draws = Draws(package, self._spec, reference=self._reference, test_limit=parameters.test_limit)
        wanted = self._draws.wanted(units)
        self._place = {split: {place: row for row, place in enumerate(own)} for split, own in wanted.items()}
        self._samples = {split: [self._draws.samples(split)[at] for at in own] for split, own in wanted.items()}
        self._features: dict[Split, Array] = {}
        self._pictures: dict[Split, Pictures] = {}

    async def run(self, unit: Unit, hooks: Hooks, watch: Watch, seconds: float | None = None) -> Ran:
        """``seconds`` are left for it. Raises :class:`Problem` where ``unit`` cannot be run."""
        if unit.protocol.zero_shot:
            return await self._zero_shot(unit, watch)
        draw, rows = self._draws.of(unit), None
        if unit.protocol.init == "language":
            known = self._known(unit.protocol)
            rows = await self._subject.rows(self._material, unit.protocol, known, reference=self._reference)
        trains = strategy(str(unit.protocol.method)).trains_encoder
        if not self._features:
            for split in SPLITS:
                self._features[split] = await self._encode(self._samples[split], watch)
        if trains and not self._pictures:
            await asyncio.to_thread(self._decode, watch)
        outcome = await asyncio.to_thread(self._adapt, unit, draw, rows, hooks, self._recipe(unit, trains, seconds))
        return self._scored(outcome.probabilities, outcome, len(draw.train), draw.warnings)

    async def _zero_shot(self, unit: Unit, watch: Watch) -> Ran:
        probs = await self._subject.zero_shot(
            self._material,
            self._package,
            self._draws.test,
            unit.protocol,
            self._known(unit.protocol),
            reference=self._reference,
            watch=watch,
        )
        return self._scored(probs)

    def _known(self, protocol: Protocol) -> Mapping[str, ClassKnowledge] | None:
        return None if protocol.knowledge is None else self._knower()

    async def _encode(self, samples: Sequence[Stored], watch: Watch) -> Array:
        if not samples:
            return np.empty((0, 0), np.float32)
        features = await self._subject.features(self._material, self._package, samples, watch)
        if not np.isfinite(features).all():
            raise Problem(
                Kind.INVALID,
                "features-not-finite",
                "The encoder puts out no numbers",
                f"{self._subject.names.encoder!r} gave NaN or infinity for images of {self._spec.name!r}.",
            )
        return features

    def _decode(self, watch: Watch) -> None:
        """Pictures as strategies take them that train an encoder: cropped once, in files of this attempt."""
        spec = self._subject.encoder.image
        assert spec is not None
        self._scratch.mkdir(parents=True, exist_ok=True)
        total, before = sum(map(len, self._samples.values())), 0
        for split, samples in self._samples.items():

            def progress(done: int, before: int = before) -> None:
                watch(before + done, total)

            images = (self._package.read(stored) for stored in samples)
            file = self._scratch / f"{split}.pixels"
            self._pictures[split] = Pictures.collect(images, spec, file, self._subject.limits, progress)
            before += len(samples)

    def _adapt(self, unit: Unit, draw: Draw, rows: Array | None, hooks: Hooks, recipe: Recipe) -> Outcome:
        trains = strategy(recipe.method).trains_encoder
        train = self._examples("train", draw.train, trains)
        validation = None
        if self._draws.validates(unit):
            validation = self._examples("val", range(len(self._draws.validation)), trains)
        if rows is not None and not self._reference:
            rows = fitted_rows(rows, self._examples("train", draw.train, False).features)
        encoder = self._subject.trainable() if trains else None
        test = self._examples("test", range(len(self._draws.test)), trains)
        data = Data(train, validation, test, rows, encoder)
        with _as_problems():
            if self._reference:
                return reference(data, recipe, hooks, merge=draw.merge)
            return strict(data, recipe, hooks)

    def _examples(self, split: Split, places: Sequence[int], pictures: bool) -> Examples:
        """Images at ``places`` of a split as features or as pictures, with their labels."""
        rows = [self._place[split][place] for place in places]
        labels = [self._samples[split][row].sample.labels for row in rows]
        if pictures:
            return Examples(self._pictures[split].rows(rows), labels)
        return Examples(self._features[split][rows], labels)

    def _recipe(self, unit: Unit, trains: bool, seconds: float | None) -> Recipe:
        parameters = self._parameters
        search, trials = search_of(parameters, trains)
        return Recipe(
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
            seconds=seconds,
            search_epochs=min(parameters.epochs, SEARCH_EPOCHS),
        )

    def _scored(
        self, probs: Array, outcome: Outcome | None = None, trained_on: int = 0, warnings: tuple[str, ...] = ()
    ) -> Ran:
        labels = [stored.sample.labels for stored in self._draws.test]
        if self._spec.task == "multilabel":
            truth = one_hot(Examples(probs, labels), len(self._spec.classes))
        else:
            truth = np.array([own[0] for own in labels], np.int64)
        scores = probs.astype(np.float64)
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
        return Ran(value, error_test, probs, len(labels), trained_on, outcome, warnings)


@contextmanager
def _as_problems() -> Iterator[None]:
    """What an adaptation raises, as problems that say what to change."""
    try:
        yield
    except SplitError as error:
        raise too_few(f"{error}.") from error
    except FloatingPointError as error:
        raise Problem(
            Kind.INVALID,
            "training-diverged",
            "The training diverged",
            f"{error}.",
            pointer="/parameters/learning_rate",
            remedy="Leave learning_rate and weight_decay out, so that they are searched.",
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Problem(
            Kind.INVALID,
            "out-of-memory",
            "Memory ran out",
            "The model and what it is trained with did not fit.",
            remedy="Choose a smaller model, or a method that trains less.",
        ) from error
