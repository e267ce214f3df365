"""A task is a row, a runner and nothing else: what runs, records and reports a benchmark assumes no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.evaluation.bench import Predictions, Ran, Setting, TaskRunner
from services.evaluation.named import Names
from services.evaluation.plan import Unit
from services.evaluation.reports.results import Record
from services.evaluation.tasks import RUN, TASKS, runners
from services.finetuning.training.hooks import Hooks
from tests.services.evaluation.test_run import finish, outputs


class Counting:
    """Scores a model by how many bytes its images have: nothing is classified, trained or searched."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    async def run(self, unit: Unit, hooks: Hooks, watch: Any, seconds: float | None = None) -> Ran:
        package = self._setting.package
        sizes = np.array([len(package.read(stored)) for stored in package.split("test")])
        return Ran(0.25, 0.01, len(sizes), {"bytes": sizes}, notes={"largest": float(sizes.max())})


def pack(models_dir: Path, names: Names, runs: Sequence[tuple[Record, Predictions]]) -> bytes:
    [(record, predictions)] = runs
    return json.dumps({"of": record.dataset, "model": names.name, "bytes": predictions["bytes"].tolist()}).encode()


def noted(unit: Unit, ran: Ran, trials: int) -> Mapping[str, float]:
    return {"trials_seen": trials}


def test_every_task_that_is_run_has_a_runner() -> None:
    assert set(runners.RUNNERS) == set(RUN)
    assert all(row.metrics and (not row.not_run) == (name in RUN) for name, row in TASKS.items())


def test_a_task_of_its_own_is_run_recorded_and_reported(services, colours, submit, monkeypatch) -> None:
    own = TaskRunner(open=Counting, steps=lambda parameters, unit: 1, notes=noted, submission=pack)
    monkeypatch.setitem(runners.RUNNERS, "classification", lambda: own)
    ended = finish(services, submit(protocols=["zero-shot"], predictions=True))
    made = outputs(services, ended)
    [cell] = ended.result["cells"]
    assert (cell["mean"], cell["stderr"], cell["test_images"]) == (0.25, 0.01, 24)
    [unit] = json.loads(made["results.json"])["units"]
    assert unit["notes"]["trials_seen"] == 0 and unit["notes"]["largest"] > 0 and unit["learning_rate"] is None
    packed = json.loads(made["submission-tiny-open-zero-shot-0.zip"])
    assert packed["of"] == "colours" and max(packed["bytes"]) == unit["notes"]["largest"]


def test_a_task_without_a_form_for_predictions_leaves_no_submission(services, colours, submit, monkeypatch) -> None:
    own = TaskRunner(open=Counting, steps=lambda parameters, unit: 1)
    monkeypatch.setitem(runners.RUNNERS, "classification", lambda: own)
    made = outputs(services, finish(services, submit(protocols=["zero-shot"], predictions=True)))
    assert not [name for name in made if name.startswith("submission-")]
    assert "probabilities-00000.safetensors" in made


@pytest.mark.parametrize(
    ("task", "metric", "classes", "why"),
    [
        ("classification", "accuracy", 3, ""),
        ("classification", "roc_auc", 2, ""),
        ("classification", "roc_auc", 3, "roc_auc takes two classes, and there are 3"),
        ("classification", "coco_ap", 3, "coco_ap does not fit a classification set"),
        ("multilabel", "11point_mAP", 3, ""),
        ("multilabel", "accuracy", 3, "accuracy takes one label an image; sets with several take 11point_mAP"),
        ("multilabel", "coco_ap", 3, "coco_ap does not fit a multilabel set"),
        ("detection", "coco_ap", 3, ""),
        ("detection", "accuracy", 3, "accuracy does not fit a detection set"),
    ],
)
def test_a_metric_fits_a_task_or_says_why_not(task: str, metric: str, classes: int, why: str) -> None:
    assert TASKS[task].misfit(metric, classes) == why
