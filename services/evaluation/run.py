"""Does a benchmark job: every unit of its plan, each trial kept before the next one begins, then the reports.

A unit that cannot be run is recorded with its problem and the others go on; only a job of which nothing could be run
fails. The checkpoint holds the records that are finished and the trials of the unit at work, so that a worker that is
killed costs one trial.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import groupby
from typing import Any

import orjson
from safetensors.numpy import save

from services.errors import Kind, Problem
from services.evaluation.bench import Bench, Setting, TaskRunner
from services.evaluation.named import Names, parts, resolve
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit, units
from services.evaluation.reports.recording import as_error, clock, record_of
from services.evaluation.reports.results import Record
from services.evaluation.reports.writing import Report, predictions_name
from services.evaluation.state import State, trial_key
from services.evaluation.suites.sources import Sources
from services.evaluation.tasks.runners import runner
from services.finetuning.heads.head import Epoch
from services.finetuning.search.grid import Trial
from services.finetuning.training.following import TELL
from services.finetuning.training.hooks import Hooks
from services.jobs.context import JobContext
from services.ownership import Viewer
from services.runtime.onnx.backend import OnnxBackend


def run(ctx: JobContext[BenchmarkParameters]) -> Mapping[str, Any]:
    """See :class:`services.evaluation.parameters.BenchmarkParameters`."""
    return asyncio.run(_Benchmark(ctx).go())


class _Benchmark:
    def __init__(self, ctx: JobContext[BenchmarkParameters]) -> None:
        self._ctx = ctx
        self._parameters = ctx.parameters
        self._sources = Sources(ctx, ctx.parameters, self._fetching)
        self._specs = self._sources.sets
        self._plan = list(units(self._parameters, tuple(self._specs)))
        self._weights = {unit.key: self._runner(unit).steps(self._parameters, unit) for unit in self._plan}
        saved = ctx.load_checkpoint()
        self._state = State.of(saved.read_bytes()) if saved else State()
        self._began = time.monotonic()
        self._spent_before = self._state.seconds
        self._told = 0.0
        self._lines = ctx.stream("units.jsonl")

    async def go(self) -> dict[str, Any]:
        ctx = self._ctx
        viewer = Viewer.of(ctx.services.engine, ctx.owner)
        names = {model: resolve(ctx.settings.models_dir, model, viewer) for model in self._parameters.models}
        report = Report(ctx, self._sources.suite, self._specs, self._plan, names)
        left = [unit for unit in self._plan if unit.key not in self._state.done]
        if left:
            needed = [part for unit in left for part in parts(ctx.settings.models_dir, names[unit.model])]
            backend = OnnxBackend(ctx.settings.model_copy(update={"preload": tuple(dict.fromkeys(needed))}))
            await backend.start()
            try:
                for (model, dataset), group in groupby(left, key=lambda unit: (unit.model, unit.dataset)):
                    await self._group(backend, names[model], dataset, list(group))
            finally:
                await backend.close()

        records = [self._state.done[unit.key] for unit in self._plan]
        if all(record.score is None for record in records):
            raise _nothing(records)

        ctx.step(message="writing the reports")
        return report.write(records, clock(self._began, self._spent_before), self._state.hashes)

    async def _group(self, backend: OnnxBackend, names: Names, dataset: str, group: list[Unit]) -> None:
        """All units of one model and data set; what keeps all of them from running is told of each."""
        ctx = self._ctx
        try:
            self._say(f"preparing {dataset}")
            with ExitStack() as opened, self._sources.material(dataset) as material, material.open() as package:
                self._state.hashes[dataset] = material.sha256
                model = await backend.resolve(names.name)
                opened.enter_context(model)
                setting = Setting(
                    backend=backend,
                    model=model,
                    opened=opened,
                    names=names,
                    settings=ctx.settings,
                    material=material,
                    package=package,
                    parameters=self._parameters,
                    units=group,
                    knowledge=lambda: self._sources.knowledge(dataset),
                    scratch=ctx.scratch / f"{names.name}-{dataset}",
                )
                bench = runner(material.spec.task).open(setting)
                for unit in group:
                    await self._unit(bench, unit)
        except Problem as problem:
            if problem.kind is Kind.UNAVAILABLE:
                raise
            for unit in group:
                if unit.key not in self._state.done:
                    self._finish(unit, record_of(unit, self._metric(unit), error=as_error(problem)))

    async def _unit(self, bench: Bench, unit: Unit) -> None:
        limit = self._parameters.max_seconds
        if limit is not None and clock(self._began, self._spent_before) > limit:
            told = {"code": "time-budget", "title": "The time budget was spent", "detail": f"{limit:g} s were allowed."}
            self._finish(unit, record_of(unit, self._metric(unit), error=told))
            return

        self._state.begin(unit.key)
        self._say(unit.title)
        since, so_far = time.monotonic(), self._state.unit_seconds
        try:
            hooks = self._hooks(unit, since, so_far)
            # What earlier attempts spent on this unit is in ``so_far`` too, which its own clock begins at.
            seconds = None if limit is None else limit - clock(self._began, self._spent_before) + so_far
            ran = await bench.run(unit, hooks, lambda n, total: self._encoding(unit, n, total), seconds)
        except Problem as problem:
            if problem.kind is Kind.UNAVAILABLE:
                raise
            self._ctx.log(f"{unit.title}: {problem.title}. {problem.detail}", "warning")
            failed = record_of(unit, self._metric(unit), error=as_error(problem), seconds=clock(since, so_far))
            self._finish(unit, failed)
            return

        if self._parameters.predictions:
            name = predictions_name(self._plan.index(unit))
            with self._ctx.artifact(name, "application/octet-stream") as out:
                out.write(save(dict(ran.predictions)))

        trials = len(self._state.trials)
        notes = self._runner(unit).notes(unit, ran, trials)
        seconds_spent = clock(since, so_far)
        self._finish(unit, record_of(unit, self._metric(unit), ran, trials=trials, notes=notes, seconds=seconds_spent))

    def _hooks(self, unit: Unit, since: float, so_far: float) -> Hooks:
        """Return what is kept of every trial, and where the search ends early."""
        state = self._state

        def on_trial(trial: Trial, score: float) -> None:
            state.trials[trial_key(trial)] = score
            state.unit_seconds = clock(since, so_far)
            best = max(state.trials.values())
            self._save()
            self._ctx.step(
                self._reached() + len(state.trials),
                self._total(),
                message=f"{unit.title}: trial {len(state.trials)}, best so far {best:.3f}",
                metrics={"trial_score": score, "best_score": best},
            )

        def on_epoch(epoch: Epoch, message: str) -> None:
            now = time.monotonic()
            if now - self._told < TELL:  # those of a head are over before anybody could look
                return
            self._told = now
            told = {"epoch": float(epoch.number), "loss": epoch.loss, "epoch_score": epoch.metric}
            self._ctx.step(
                self._reached() + len(state.trials),
                self._total(),
                message=f"{unit.title}: {message}, epoch {epoch.number}",
                metrics={name: value for name, value in told.items() if math.isfinite(value)},
            )

        return Hooks(
            on_trial=on_trial,
            on_trial_epoch=lambda trial, epoch: on_epoch(epoch, f"trial {trial.number + 1}"),
            on_epoch=lambda epoch: on_epoch(epoch, "training with the best settings"),
            stored=lambda trial: state.trials.get(trial_key(trial)),
            between=self._ctx.step,
            log=lambda message: self._ctx.log(f"{unit.title}: {message}", "warning"),
            spent=so_far,
        )

    def _finish(self, unit: Unit, record: Record) -> None:
        """Keep a finished unit: its record, and one line with its trials."""
        trials = [[*map(float, key.split(",")), score] for key, score in self._state.trials.items()]
        self._lines.write(orjson.dumps(record.document() | {"search": trials}, option=orjson.OPT_APPEND_NEWLINE))
        self._state.end(record)
        self._save()
        metrics = {} if record.score is None else {f"{record.dataset} {record.metric}": record.score}
        self._ctx.step(self._reached(), self._total(), metrics=metrics)

    def _save(self) -> None:
        self._state.seconds = clock(self._began, self._spent_before)
        self._ctx.checkpoint(self._state.dumps())

    def _metric(self, unit: Unit) -> str:
        return self._specs[unit.dataset].metric

    def _runner(self, unit: Unit) -> TaskRunner:
        return runner(self._specs[unit.dataset].task)

    # Telling

    def _total(self) -> int:
        return sum(self._weights.values())

    def _reached(self) -> int:
        return sum(self._weights[key] for key in self._state.done)

    def _say(self, message: str) -> None:
        self._ctx.step(self._reached() + len(self._state.trials), self._total(), message=message)

    def _encoding(self, unit: Unit, done: int, total: int) -> None:
        self._say(f"{unit.dataset}: {unit.model} encodes image {done:,} of {total:,}")

    def _fetching(self, name: str, done: int, total: int | None) -> None:
        size = f" of {total / 1e6:,.0f}" if total else ""
        self._say(f"fetching {name}: {done / 1e6:,.0f}{size} MB")


def _nothing(records: list[Record]) -> Problem:
    """The job's own problem where every unit had one: that of the first."""
    error = next((record.error for record in records if record.error), None) or {}
    return Problem(
        Kind.INVALID,
        error.get("code", "benchmark-empty"),
        error.get("title", "Nothing could be measured"),
        f"None of {len(records)} units could be run; the first: {error.get('detail', '')}",
        remedy=error.get("remedy"),
    )
