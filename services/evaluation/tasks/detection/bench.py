"""One detection set and one model of a benchmark: found by its labels, or trained on some of its images, and scored.

Zero-shot is what `/v1/detect` answers for the names of the set's classes. Few-shot and full train a detector as the
``finetune`` job does, on the images that ELEVATER's sampling draws.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import torch

from models.repository.reading import read_card
from services.datasets.package import Stored
from services.datasets.samples import Split
from services.datasets.splits import few_shot
from services.detection.answers import DetectRequest, Limits
from services.detection.service import Detecting
from services.errors import Kind, Problem
from services.evaluation.bench import Ran, Setting, TaskRunner, Watch
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit
from services.evaluation.tasks.detection.submission import Detections, pack
from services.finetuning.detection.adapting import Adapted, adapt
from services.finetuning.detection.photos import Photos
from services.finetuning.detection.scoring import document, found_in
from services.finetuning.kind import DETECTION_METHODS, detector_of
from services.finetuning.training.hooks import Hooks
from services.media.image import read_picture
from services.media.intake import Limits as MediaLimits
from services.metrics.detection import coco_ap
from services.runtime.protocol import Options
from services.stages import Stages

LEAST, MOST = 0.001, 100
"""What is asked of a model: COCO's AP looks at the best 100 boxes of a picture, however unsure."""
RESAMPLED = 20
"""Draws of the test images, with replacement, that the standard error is of."""


class DetectionBench:
    """One model on one detection set."""

    def __init__(self, setting: Setting) -> None:
        torch.set_num_threads(1)
        self._setting = setting
        spec = setting.material.spec
        split: Split = "test" if spec.evaluated_on == "test" else "val"
        self._test = setting.package.split(split)[: setting.parameters.test_limit]
        if not any(stored.sample.boxes for stored in self._test):
            raise Problem(
                Kind.INVALID,
                "dataset-split",
                "There is nothing to be found in the test images",
                f"{spec.name!r} has {len(self._test)} images in its {split} split, none with a box.",
                remedy=f"Give it a {split} split with boxes.",
            )

    async def run(self, unit: Unit, hooks: Hooks, watch: Watch, seconds: float | None = None) -> Ran:
        """See :class:`services.evaluation.bench.Bench`."""
        if unit.protocol.zero_shot:
            return self._ran(await self._zero_shot(watch))
        return await asyncio.to_thread(self._adapted, unit, hooks, watch, seconds)

    async def _zero_shot(self, watch: Watch) -> Detections:
        """What the model as it serves finds for the names of the classes."""
        setting, classes = self._setting, self._setting.package.classes
        service = Detecting(setting.backend, setting.settings)
        labels = None if setting.model.card.task == "detect" else [readable(name) for name in classes]
        places = {readable(name): number for number, name in enumerate(classes)}
        rows: list[tuple[int, int, float, tuple[float, ...]]] = []
        limits = MediaLimits.of(setting.settings)
        for number, stored in enumerate(self._test):
            picture = read_picture(setting.package.read(stored), limits)
            request = DetectRequest([picture], labels, limits=Limits(LEAST, MOST))
            answer = await service.detect(setting.model, request, Options(), Stages())
            for one in answer.results[0].detections:
                place = places.get(readable(one.label))
                if place is not None:
                    rows.append((number, place, one.score, one.box))
            watch(number + 1, len(self._test))
        return Detections.of(rows)

    def _adapted(self, unit: Unit, hooks: Hooks, watch: Watch, seconds: float | None) -> Ran:
        setting, method = self._setting, str(unit.protocol.method)
        root = setting.settings.models_dir
        folder = detector_of(root, setting.names.name)
        if folder is None or method not in DETECTION_METHODS:
            raise Problem(
                Kind.INVALID,
                "method-unsuitable",
                "The model cannot be adapted in this way",
                f"{setting.names.name!r} is no detector that {method} adapts.",
                pointer="/parameters/protocols",
                remedy=f"Use nanodet-coco or photo-detect with {', '.join(DETECTION_METHODS)}.",
            )
        card = read_card(folder)
        assert card.image is not None
        limits = MediaLimits.of(setting.settings)
        samples = self._drawn(unit)
        photos, tests = (Photos(setting.package, part, card.image, limits) for part in (samples, self._test))
        begun = time.monotonic()

        def told(done: int) -> None:
            hooks.between()
            watch(min(done, len(photos)), len(photos))

        made: Adapted = adapt(
            folder,
            card,
            setting.package.classes,
            photos,
            method=method,
            models_dir=root,
            language=unit.protocol.init == "language",
            epochs=setting.parameters.epochs,
            learning_rate=setting.parameters.learning_rate,
            weight_decay=setting.parameters.weight_decay,
            seed=unit.seed,
            over=lambda: seconds is not None and time.monotonic() - begun > seconds,
            told=told,
        )
        rows = []
        for number in range(len(tests)):
            boxes, scores, labels = found_in(made.detector, tests[number], LEAST)
            rows += [
                (number, int(label), float(score), tuple(box))
                for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
            ]
            hooks.between()
        return self._ran(Detections.of(rows), made, len(samples))

    def _drawn(self, unit: Unit) -> list[Stored]:
        samples = self._setting.package.split("train")
        if not samples:
            raise Problem(
                Kind.INVALID, "dataset-split", "The data set has no training images", "Nothing to learn from."
            )
        if unit.shots is None:
            return samples
        labels = [stored.sample.labels for stored in samples]
        return [samples[place] for place in few_shot(labels, len(self._setting.package.classes), unit.shots, unit.seed)]

    def _ran(self, found: Detections, made: Adapted | None = None, trained_on: int = 0) -> Ran:
        truth = document(self._test, self._setting.package.classes)
        whole = coco_ap(truth, found.results(range(len(self._test))))
        notes = {name: whole.statistics[name] for name in ("AP50", "AP75", "APs", "APm", "APl")}
        return Ran(
            score=whole.ap,
            error_test=self._error(found),
            test_images=len(self._test),
            predictions=found.arrays([stored.sample.path for stored in self._test]),
            trained_on=trained_on,
            trainable=0 if made is None else made.trainable,
            epochs=None if made is None else made.passes,
            notes=notes,
        )

    def _error(self, found: Detections) -> float:
        """The deviation of AP over draws of the test images with replacement: its standard error."""
        random = np.random.default_rng(0)
        values = []
        for _ in range(RESAMPLED):
            drawn = random.integers(0, len(self._test), len(self._test))
            samples = [self._test[place] for place in drawn]
            if any(stored.sample.boxes for stored in samples):
                truth = document(samples, self._setting.package.classes)
                values.append(coco_ap(truth, found.results(drawn)).ap)
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def readable(name: str) -> str:
    """``white-bishop`` as people write it."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())


def steps(parameters: BenchmarkParameters, unit: Unit) -> int:
    return 1


def noted(unit: Unit, ran: Ran, trials: int) -> Any:
    return ran.notes


RUNNER = TaskRunner(open=DetectionBench, steps=steps, notes=noted, submission=pack)
