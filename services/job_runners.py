"""The work behind every kind of job. Only processes that run jobs import this: it reaches torch, the gateway may not.

Each function imports the work of its own kind alone, so that a worker for batches loads no training library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from services.job_kinds import registry
from services.jobs.kind import Handler, JobKind


def _batch() -> Handler[Any]:
    from services.batch.run import run

    return run


def _finetune() -> Handler[Any]:
    from services.finetuning.run import run

    return run


def _pretrain() -> Handler[Any]:
    from services.pretraining.run import run

    return run


def _benchmark() -> Handler[Any]:
    from services.evaluation.run import run

    return run


def _promote() -> Handler[Any]:
    from services.evaluation.promotion import run

    return run


def _simulate() -> Handler[Any]:
    from services.dialog.simulator.job import run

    return run


def _train_bot() -> Handler[Any]:
    from services.dialog.training.job import run

    return run


RUNNERS: dict[str, Callable[[], Handler[Any]]] = {
    "batch": _batch,
    "finetune": _finetune,
    "pretrain": _pretrain,
    "benchmark": _benchmark,
    "promote": _promote,
    "simulate": _simulate,
    "train-bot": _train_bot,
}


def runnable(modules: Sequence[str] = ()) -> dict[str, JobKind[Any]]:
    """The kinds of :func:`services.job_kinds.registry`, each with its work."""
    return {name: replace(kind, load=RUNNERS.get(name, kind.load)) for name, kind in registry(modules).items()}
