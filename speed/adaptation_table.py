"""The tables of docs/benchmark.md: models x data sets x protocols x shots x seeds, as a benchmark job runs each unit.

``python -m speed.adaptation_table --data FOLDER --models unicl-pocket --protocols zero-shot linear-probe``
where FOLDER has the folders of :data:`speed.adaptation_sets.SETS`, each ``train/<class>/`` and ``test/<class>/``.

Every finished unit is a line of ``--into``, with the hash of its encoder, and is not run again: stop the command when
you like, and give it again later. Heads on frozen encoders are searched as ELEVATER does it. What trains an encoder has
its strategy's own learning rate and weight decay, unless ``--trials`` asks for a search. ``--side`` feeds the encoder
smaller pictures than its card says, in PyTorch, and the frozen rows too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch

from models.repository.reading import MODEL
from services.datasets.package import Package, Stored
from services.errors import Problem
from services.evaluation.bench import Setting, Watch
from services.evaluation.named import Names, parts, resolve
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit, units
from services.evaluation.protocols import protocol
from services.evaluation.reports.recording import as_error, clock, record_of
from services.evaluation.suites.preparing import Material
from services.evaluation.tasks.classification.bench import RUNNER, Workbench
from services.evaluation.tasks.classification.subject import Array, Subject
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.placing import features_of
from services.finetuning.heads.recipe import Recipe
from services.finetuning.strategies.base import strategy
from services.finetuning.training.hooks import Hooks
from services.ownership import Viewer
from services.runtime.onnx.backend import OnnxBackend
from services.settings import Settings
from services.storage.keys import ANONYMOUS
from speed.adaptation_sets import FIXED, NAMES, PROTOCOLS, SETS, LabelledSet, labelled_set

RESULTS = Path(__file__).parents[1] / "docs" / "benchmark" / "units.jsonl"
BATCH = 32
KEPT = (
    "model", "dataset", "protocol", "seed", "metric", "method", "init", "score", "error_test", "test_images",
    "trained_on", "trainable", "learning_rate", "weight_decay", "epochs", "trials", "validation_score", "seconds",
)  # fmt: skip
"""Of a record, in a line."""


class Scaled(Subject):
    """A model on pictures of another side than its card says, its features computed by PyTorch."""

    def __init__(self, backend: OnnxBackend, names: Names, settings: Settings, side: int) -> None:
        super().__init__(backend, names, settings)
        self.network = self.trainable()  # compared with the served file at the side of its card
        assert self.encoder.square is not None
        image = self.encoder.square.model_copy(
            update={"size": side, "resize": self.encoder.square.resize and side * 8 // 7}
        )
        self.encoder = self.encoder.model_copy(update={"image": image})

    async def features(self, material: Material, package: Package, samples: Sequence[Stored], watch: Watch) -> Array:
        assert self.encoder.square is not None
        with tempfile.TemporaryDirectory(prefix="pixels-") as folder:
            images = (package.read(stored) for stored in samples)
            pictures = Pictures.collect(images, self.encoder.square, Path(folder) / "pixels", self.limits)
            return features_of(self.network, pictures, BATCH)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(prog="python -m speed.adaptation_table", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--into", type=Path, default=RESULTS)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--datasets", nargs="+", default=list(SETS), choices=NAMES)
    parser.add_argument("--protocols", nargs="+", required=True, help="names of protocols, or *-descriptions")
    parser.add_argument("--shots", nargs="+", type=int, default=[5, 20, 50], help="the nearest that a set has")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=0, help="pixels; the model's own when 0")
    parser.add_argument("--epochs", type=int, default=50, help="of a last training, at most")
    parser.add_argument("--trials", type=int, default=0, help="of a search that trains an encoder; 0: no search")
    parser.add_argument("--share", type=float, help="of the head's rate for the encoder; each strategy's own if absent")
    parser.add_argument("--test-limit", type=int)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asyncio.run(_Table(options).run())


class Bench(Workbench):
    """Adapts with a share of the learning rate for the encoder that is not the strategy's own."""

    share: float | None = None

    def _recipe(self, unit: Unit, trains: bool, seconds: float | None) -> Recipe:
        return replace(super()._recipe(unit, trains, seconds), encoder_rate=self.share)


class _Table:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._settings = options, Settings()
        self._scratch = self._settings.cache_dir / "table"
        self._scratch.mkdir(parents=True, exist_ok=True)
        into: Path = options.into
        into.parent.mkdir(parents=True, exist_ok=True)
        lines = into.read_text().splitlines() if into.exists() else []
        self._done = {_identity(line) for line in map(json.loads, lines)}

    async def run(self) -> None:
        models_dir = self._settings.models_dir
        for model in self._options.models:
            names = resolve(models_dir, model, Viewer(ANONYMOUS, sees_all=True))
            preload = parts(models_dir, names)
            backend = OnnxBackend(self._settings.model_copy(update={"preload": preload}))
            await backend.start()
            try:
                side: int = self._options.side
                subject = (
                    Scaled(backend, names, self._settings, side) if side else Subject(backend, names, self._settings)
                )
                for name in self._options.datasets:
                    labelled = labelled_set(self._options.data, name, self._scratch, self._settings)
                    await self._set(backend, subject, labelled)
            finally:
                await backend.close()

    async def _set(self, backend: OnnxBackend, subject: Subject, labelled: LabelledSet) -> None:
        """All units of one model and data set; those of one learning rate share what is decoded."""
        options = self._options
        chosen = [PROTOCOLS.get(name) or protocol(name) for name in options.protocols]
        shots = list(dict.fromkeys(_nearest(labelled.shots, wanted) for wanted in options.shots))
        parameters = BenchmarkParameters(
            models=[subject.names.name],
            protocols=list(chosen),
            shots=list(shots),
            seeds=options.seeds,
            epochs=options.epochs,
            test_limit=options.test_limit,
        )
        plan = list(units(parameters, (labelled.name,)))
        with labelled.material.open() as package:
            for how, group in groupby(plan, key=self._search):
                own = list(group)
                left = [unit for unit in own if self._line(unit, subject, {}) is not None]
                if not left:
                    continue
                told = dict(zip(("learning_rate", "weight_decay", "max_trials"), how, strict=True))
                with tempfile.TemporaryDirectory(prefix="bench-", dir=self._scratch) as folder:
                    setting = Setting(
                        backend=backend,
                        names=subject.names,
                        settings=self._settings,
                        material=labelled.material,
                        package=package,
                        parameters=parameters.model_copy(update=told),
                        units=own,
                        knowledge=lambda: labelled.knowledge,
                        scratch=Path(folder),
                    )
                    bench = Bench(setting, subject)
                    bench.share = options.share
                    for unit in left:
                        await self._unit(bench, subject, labelled, unit)

    def _search(self, unit: Unit) -> tuple[float | None, float | None, int | None]:
        """Learning rate and weight decay where there is no search, and the trials of one that is shortened."""
        if unit.protocol.method is None:
            return None, None, None
        chosen = strategy(unit.protocol.method)
        if unit.protocol.name in FIXED or (chosen.trains_encoder and not self._options.trials):
            return chosen.learning_rate, chosen.weight_decay, None
        return None, None, self._options.trials if chosen.trains_encoder else None

    async def _unit(self, bench: Workbench, subject: Subject, labelled: LabelledSet, unit: Unit) -> None:
        began, scores = time.monotonic(), list[float]()
        hooks = Hooks(on_trial=lambda _, score: scores.append(score))
        try:
            ran = await bench.run(unit, hooks, lambda done, total: None)
            notes = RUNNER.notes(unit, ran, len(scores))
            metric = labelled.material.spec.metric
            record = record_of(unit, metric, ran, trials=len(scores), notes=notes, seconds=clock(began))
        except Problem as problem:
            record = record_of(unit, labelled.material.spec.metric, error=as_error(problem), seconds=clock(began))
        line = self._line(unit, subject, record.document())
        if line is None:
            return
        shown = "failed: " + record.error["detail"] if record.error else f"{100 * (record.score or 0):.1f} %"
        print(f"{unit.title}: {shown}, {record.trainable:,} trained, {record.seconds:.0f} s", flush=True)
        if not record.error:
            with self._options.into.open("a") as out:
                out.write(json.dumps(line) + "\n")
            self._done.add(_identity(line))

    def _line(self, unit: Unit, subject: Subject, record: dict[str, Any]) -> dict[str, Any] | None:
        """What is written of a unit; ``None`` where the file has it already."""
        kept = {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in record.items()
            if name in KEPT and value is not None
        }
        rate, _, trials = self._search(unit)
        own = strategy(unit.protocol.method or "linear_probe")
        kept |= {
            "key": unit.key,
            "shots": unit.shots,
            "side": self._options.side,
            "share": (self._options.share or own.encoder_rate) if own.trains_encoder else 1.0,
            "encoder": subject.encoder.files[MODEL],
            "most_epochs": self._options.epochs,
            "test_limit": self._options.test_limit or 0,
            "search": "none" if rate else trials or "whole",
        }
        return None if _identity(kept) in self._done else kept


def _nearest(shots: tuple[int, ...], wanted: int) -> int | Literal["full"]:
    """What a set has; all its images where it has too few to draw from."""
    if not shots:
        return "full"
    return min(shots, key=lambda own: abs(own - wanted))


def _identity(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("key", "side", "share", "encoder", "most_epochs", "test_limit", "search"))


if __name__ == "__main__":
    main()
