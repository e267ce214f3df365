"""A worker that is killed with SIGKILL inside a trial costs that trial and no other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.finetuning.kind import FinetuneParameters
from services.finetuning.training import fitting
from services.jobs.reaper import Reaper
from services.jobs.records import Order
from tests.services.evaluation.conftest import OWNER
from tests.support import search_worker
from tests.support.jobs import kinds, run_job
from tests.support.serving import eventually

ROOT = Path(__file__).parents[3]
AT = 9
"""The trial in which the worker dies."""


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The folder where this process tells of its trials."""
    folder = tmp_path / "trials"
    folder.mkdir()
    monkeypatch.setattr(fitting._Fit, "_best_epoch", fitting._Fit._best_epoch)
    monkeypatch.setattr(fitting, "train_probe", fitting.train_probe)  # put back what record() replaces
    search_worker.record(folder)
    return folder


def killed_inside(services, job, folder):
    """Run the job in a process of its own, kill it inside a trial, and give the trials that had begun."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.search_worker", str(services.settings.data_dir), job.id]
    worker = subprocess.Popen([*command, str(AT), str(folder)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: (folder / "inside").exists() or worker.poll() is not None, 120)
    finally:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    reaper = Reaper(services.engine, lease=0.5, max_deaths=3)
    eventually(lambda: bool(reaper.sweep()), 60)
    return begun(folder)


def begun(folder):
    return (folder / "begun").read_text().splitlines()


def finetuning(services, **fields):
    parameters = FinetuneParameters(
        dataset="colours", model="tiny-classifier", name="mine", init="random", trials=14, epochs=5, **fields
    )
    kind = kinds(services)["finetune"]
    kind.check(services, OWNER, parameters)
    order = Order(kind.name, kind.queue, parameters.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=100)[0]


@pytest.mark.parametrize("kind", ["benchmark", "finetune"])
def test_a_search_that_is_killed_loses_the_trial_it_was_in(services, colours, submit, tmp_path, watched, kind):
    def order():
        if kind == "benchmark":
            return submit(protocols=["linear-probe"], max_trials=14)
        return finetuning(services, search="optuna")

    job = order()
    before = killed_inside(services, job, tmp_path / "killed")
    assert run_job(services, job.id) == "succeeded"
    after = begun(watched)
    assert len(before) == AT and before[-1] == after[0]
    assert set(before[:-1]).isdisjoint(after) and len(before) + len(after) == 14 + 1
    ended = services.jobs.get(OWNER, job.id)
    assert ended.attempt == 2
    (watched / "begun").unlink()
    whole = order()
    assert run_job(services, whole.id) == "succeeded"
    assert begun(watched) == [*before[:-1], *after]
    if kind == "benchmark":
        assert scores(services, ended) == scores(services, services.jobs.get(OWNER, whole.id))
    else:
        assert ended.result["fit"] == services.jobs.get(OWNER, whole.id).result["fit"]


def scores(services, job):
    """Every trial with its score, and what they came to."""
    [lines] = [made for made in services.artifacts.of_job(job.id) if made.name == "units.jsonl"]
    [unit] = map(json.loads, b"".join(services.artifacts.read(lines)).splitlines())
    assert len(unit["search"]) == 14
    return unit["search"], unit["score"], unit["learning_rate"], unit["epochs"]
