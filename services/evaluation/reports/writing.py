"""What a benchmark job leaves: one JSON with everything, a table, plots, and ELEVATER's zips where asked for."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from safetensors.numpy import load

from services.evaluation.bench import Predictions
from services.evaluation.named import Names, newest
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit, shots_name
from services.evaluation.reports import plots
from services.evaluation.reports.results import Record, as_csv, cells
from services.evaluation.suites.registry import SuiteSet
from services.evaluation.tasks import TaskName
from services.evaluation.tasks.runners import runner
from services.jobs.context import JobContext

FORMAT = 1
_PACKAGES = ("sightline", "numpy", "torch", "scikit-learn", "onnxruntime")


def predictions_name(position: int) -> str:
    """Name the artifact with the predictions of the unit at ``position`` of the plan."""
    return f"probabilities-{position:05d}.safetensors"


class Report:
    """The outputs of one job; ``suite`` as leaderboards call it."""

    def __init__(
        self,
        ctx: JobContext[BenchmarkParameters],
        suite: str,
        specs: Mapping[str, SuiteSet],
        plan: Sequence[Unit],
        names: Mapping[str, Names],
    ) -> None:
        self._ctx = ctx
        self._suite = suite
        self._specs = specs
        self._plan = plan
        self._names = names

    def write(self, records: Sequence[Record], seconds: float, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Publish everything; gives back the job's result. ``hashes`` are of the data sets that were opened."""
        ctx, table = self._ctx, cells(records)
        document = {
            "format": FORMAT,
            "job": ctx.job_id,
            "suite": self._suite,
            "mode": ctx.parameters.mode,
            "parameters": ctx.parameters.model_dump(mode="json"),
            "protocols": {one.name: one.model_dump(mode="json") for one in ctx.parameters.resolved()},
            "versions": versions(),
            "models": {name: self._model(own) for name, own in self._names.items()},
            "datasets": {name: _described(spec) | {"sha256": hashes.get(name)} for name, spec in self._specs.items()},
            "cells": [asdict(cell) for cell in table],
            "units": [record.document() for record in records],
            "seconds": seconds,
        }
        self._put("results.json", "application/json", orjson.dumps(document, option=orjson.OPT_INDENT_2))
        self._put("results.csv", "text/csv", as_csv(records).encode())
        for name, picture in plots.draw(table).items():
            self._put(name, "image/png", picture)

        if ctx.parameters.predictions:
            self._submissions(records)

        failed = [record for record in records if record.score is None]
        return {
            "suite": self._suite,
            "mode": ctx.parameters.mode,
            "datasets": list(self._specs),
            "averaged": [name for name, spec in self._specs.items() if spec.in_average],
            "test_limit": ctx.parameters.test_limit,
            "cells": [asdict(cell) for cell in table],
            "units": len(records),
            "failed": len(failed),
            "errors": [{"unit": record.key, **(record.error or {})} for record in failed[:50]],
            "seconds": seconds,
        }

    def _put(self, name: str, media_type: str, content: bytes) -> None:
        with self._ctx.artifact(name, media_type) as out:
            out.write(content)

    def _model(self, names: Names) -> dict[str, Any]:
        found = {}
        for name in names.all:
            card, _ = newest(self._ctx.settings.models_dir, name)
            found[name] = {"version": card.version, "title": card.title, "files": dict(card.files)}
        return {"encoder": names.encoder, "language": names.language, "parts": found}

    def _submissions(self, records: Sequence[Record]) -> None:
        """Pack predictions where the task of their data sets has a form for that."""
        ctx = self._ctx
        kept = {made.name: made for made in ctx.services.artifacts.of_job(ctx.job_id)}
        groups: dict[tuple[str, str, int | None, TaskName], list[tuple[Record, Predictions]]] = {}
        for position, record in enumerate(records):
            made = kept.get(predictions_name(position))
            if record.score is None or made is None:
                continue
            predictions = load(b"".join(ctx.services.artifacts.read(made)))
            task = self._specs[record.dataset].task
            groups.setdefault((record.model, record.protocol, record.shots, task), []).append((record, predictions))

        for (model, protocol, shots, task), runs in groups.items():
            pack = runner(task).submission
            if pack is None:
                continue
            name = re.sub(r"[^A-Za-z0-9._-]", "-", f"submission-{model}-{protocol}-{shots_name(shots)}")[:120]
            self._put(f"{name}.zip", "application/zip", pack(ctx.settings.models_dir, self._names[model], runs))


def versions() -> dict[str, str]:
    """Return what the numbers were made with."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _described(spec: SuiteSet) -> dict[str, Any]:
    return {"task": spec.task, "metric": spec.metric, "classes": len(spec.classes), "templates": list(spec.templates)}
