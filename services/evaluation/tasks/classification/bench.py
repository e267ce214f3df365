"""One data set and one model of a benchmark: how each unit comes to its score. Images are encoded once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from services.datasets.package import Stored
from services.datasets.samples import Split
from services.datasets.splits import SplitError
from services.errors import Kind, Problem
from services.evaluation.bench import Ran, Setting, TaskRunner, Watch
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit, search_of
from services.evaluation.protocols import Protocol
from services.evaluation.suites.knowledge import ClassKnowledge
from services.evaluation.tasks.classification.adapting import Data, Outcome, reference, strict
from services.evaluation.tasks.classification.draws import Draw, Draws, too_few
from services.evaluation.tasks.classification.scoring import scored
from services.evaluation.tasks.classification.subject import Array, Subject
from services.evaluation.tasks.classification.submission import PROBABILITIES, pack
from services.finetuning.data.examples import Examples
from services.finetuning.data.pictures import Pictures
from services.finetuning.heads.normalisation import fitted_rows
from services.finetuning.heads.recipe import FINAL_EPOCHS, SEARCH_EPOCHS, Recipe
from services.finetuning.search.grid import REFERENCE_TRIALS
from services.finetuning.strategies.base import strategy
from services.finetuning.training.hooks import Hooks
from services.finetuning.training.memory import is_out_of_memory

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Workbench:
    """One model on one data set with its classes."""

    def __init__(self, setting: Setting, subject: Subject) -> None:
        # Matrices of heads are faster on one thread, and other jobs want the cores.
        torch.set_num_threads(1)
        self._setting = setting
        self._subject = subject
        self._material = setting.material
        self._package = setting.package
        self._spec = setting.material.spec
        self._reference = setting.parameters.mode == "reference"
        self._draws = Draws(
            setting.package, self._spec, reference=self._reference, test_limit=setting.parameters.test_limit
        )

        self._place: dict[Split, dict[int, int]] = {}
        self._samples: dict[Split, list[Stored]] = {}
        for split, own in self._draws.wanted(setting.units).items():
            every = self._draws.samples(split)
            self._place[split] = {place: row for row, place in enumerate(own)}
            self._samples[split] = [every[place] for place in own]
        self._features: dict[Split, Array] = {}
        self._pictures: dict[Split, Pictures] = {}

    async def run(self, unit: Unit, hooks: Hooks, watch: Watch, seconds: float | None = None) -> Ran:
        """See :class:`services.evaluation.bench.Bench`."""
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

        recipe = self._recipe(unit, trains, seconds)
        outcome = await asyncio.to_thread(self._adapt, unit, draw, rows, hooks=hooks, recipe=recipe)
        return self._ran(outcome.probabilities, outcome, len(draw.train), draw.warnings)

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
        return self._ran(probs)

    def _known(self, protocol: Protocol) -> Mapping[str, ClassKnowledge] | None:
        return None if protocol.knowledge is None else self._setting.knowledge()

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
        """Crop pictures for the strategies that train an encoder: once, into files of this attempt."""
        spec = self._subject.encoder.square
        assert spec is not None
        scratch = self._setting.scratch
        scratch.mkdir(parents=True, exist_ok=True)

        total, before = sum(map(len, self._samples.values())), 0
        for split, samples in self._samples.items():

            def progress(done: int, before: int = before) -> None:
                watch(before + done, total)

            images = (self._package.read(stored) for stored in samples)
            file = scratch / f"{split}.pixels"
            self._pictures[split] = Pictures.collect(images, spec, file, self._subject.limits, progress)
            before += len(samples)

    def _adapt(self, unit: Unit, draw: Draw, rows: Array | None, *, hooks: Hooks, recipe: Recipe) -> Outcome:
        trains = strategy(recipe.method).trains_encoder
        train = self._examples("train", draw.train, trains)
        test = self._examples("test", range(len(self._draws.test)), trains)
        validation = None
        if self._draws.validates(unit):
            validation = self._examples("val", range(len(self._draws.validation)), trains)

        if rows is not None and not self._reference:
            rows = fitted_rows(rows, self._examples("train", draw.train, False).features)

        encoder = self._subject.trainable() if trains else None
        data = Data(train, validation, test, rows, encoder)
        with _as_problems():
            if self._reference:
                return reference(data, recipe, hooks, merge=draw.merge)
            return strict(data, recipe, hooks)

    def _examples(self, split: Split, places: Sequence[int], pictures: bool) -> Examples:
        """Take the images at ``places`` of a split as features or as pictures, with their labels."""
        rows = [self._place[split][place] for place in places]
        labels = [self._samples[split][row].sample.labels for row in rows]
        if pictures:
            return Examples(self._pictures[split].rows(rows), labels)
        return Examples(self._features[split][rows], labels)

    def _recipe(self, unit: Unit, trains: bool, seconds: float | None) -> Recipe:
        parameters = self._setting.parameters
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

    def _ran(
        self, probs: Array, outcome: Outcome | None = None, trained_on: int = 0, warnings: tuple[str, ...] = ()
    ) -> Ran:
        test = self._draws.test
        value, error_test = scored(self._spec, test, probs)
        ran = Ran(value, error_test, len(test), {PROBABILITIES: probs}, trained_on, warnings=warnings)
        if outcome is None:
            return ran

        return replace(
            ran,
            trainable=outcome.trainable,
            learning_rate=outcome.learning_rate,
            weight_decay=outcome.weight_decay,
            epochs=outcome.epochs,
            validation_score=outcome.validation_score,
            notes=outcome.notes,
        )


@contextmanager
def _as_problems() -> Iterator[None]:
    """Turn what an adaptation raises into problems that say what to change."""
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


def steps(parameters: BenchmarkParameters, unit: Unit) -> int:
    """Count the steps of progress that a unit is: its trials, and one for the rest."""
    if unit.protocol.zero_shot or parameters.learning_rate is not None:
        return 1
    _, trials = search_of(parameters, strategy(str(unit.protocol.method)).trains_encoder)
    return 1 + min(REFERENCE_TRIALS, trials or REFERENCE_TRIALS)


def cost(unit: Unit, ran: Ran, trials: int) -> dict[str, float]:
    """Count the passes of images through a frozen encoder, and what the published toolkit would have made of them.

    The toolkit runs the frozen encoder again in every epoch: each trial passes all images, those that train and those
    that validate, ``SEARCH_EPOCHS`` times, and the last training passes them and the test images ``FINAL_EPOCHS``
    times. Here each image is passed once at most, and read from the cache afterwards.
    """
    if unit.protocol.method != "linear_probe":
        return {}
    whole = ran.trained_on + ran.test_images
    return {
        "encoder_passes": whole,
        "reference_encoder_passes": trials * SEARCH_EPOCHS * ran.trained_on + FINAL_EPOCHS * whole,
    }


def open_bench(setting: Setting) -> Workbench:
    """Make a bench for the model of ``setting`` as it serves. Raises ``dataset-split``."""
    encoder = setting.model.parts.get("image", setting.model)
    if encoder.card.square is None or encoder.card.embedding is None:
        raise Problem(
            Kind.INVALID,
            "model-embeds-no-image",
            "The model is no image encoder",
            f"{setting.names.name!r} finds boxes; {setting.material.spec.name!r} has labels of whole images.",
            remedy="Measure it on sets with boxes.",
        )
    return Workbench(setting, Subject(setting.backend, encoder, setting.names, setting.settings, setting.opened))


RUNNER = TaskRunner(open=open_bench, steps=steps, notes=cost, submission=pack)
