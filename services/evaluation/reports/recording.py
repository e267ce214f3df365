"""From what a unit came to, or what kept it from running, to its record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from services.errors import Problem
from services.evaluation.bench import Ran
from services.evaluation.plan import Unit
from services.evaluation.reports.results import Record

_REACHED = (
    "score", "error_test", "test_images", "trained_on", "warnings",
    "trainable", "learning_rate", "weight_decay", "epochs", "validation_score",
)  # fmt: skip
"""Fields of a record that are what :class:`Ran` says."""


def record_of(
    unit: Unit,
    metric: str,
    ran: Ran | None = None,
    *,
    error: dict[str, Any] | None = None,
    trials: int = 0,
    notes: Mapping[str, float] | None = None,
    seconds: float = 0.0,
) -> Record:
    """Put together what a unit is and what it came to: ``ran`` or ``error``."""
    protocol = unit.protocol
    reached = {} if ran is None else {name: getattr(ran, name) for name in _REACHED}
    return Record(
        key=unit.key,
        model=unit.model,
        dataset=unit.dataset,
        protocol=protocol.name,
        shots=unit.shots,
        seed=unit.seed,
        metric=metric,
        method=protocol.method,
        init=None if protocol.zero_shot else protocol.init,
        seconds=seconds,
        error=error,
        trials=trials,
        notes={} if ran is None else {**ran.notes, **(notes or {})},
        **reached,
    )


def as_error(problem: Problem) -> dict[str, Any]:
    """Return what a record says of a unit that could not be run."""
    told = {"code": problem.code, "title": problem.title, "detail": problem.detail or problem.title}
    return told | ({"remedy": problem.remedy} if problem.remedy else {})


def clock(since: float, so_far: float = 0.0) -> float:
    """Seconds since a monotonic moment, to a millisecond."""
    return round(so_far + time.monotonic() - since, 3)
