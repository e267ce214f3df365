"""From what a unit came to, or what kept it from running, to its record."""

from __future__ import annotations

import time
from typing import Any

from services.errors import Problem
from services.evaluation.plan import Unit
from services.evaluation.reports.cost import encoder_passes, reference_passes
from services.evaluation.reports.results import Record
from services.evaluation.running import Ran


def record_of(
    unit: Unit,
    metric: str,
    ran: Ran | None = None,
    *,
    error: dict[str, Any] | None = None,
    trials: int = 0,
    seconds: float = 0.0,
) -> Record:
    """``ran`` or ``error``."""
    protocol = unit.protocol
    told: dict[str, Any] = {
        "key": unit.key,
        "model": unit.model,
        "dataset": unit.dataset,
        "protocol": protocol.name,
        "shots": unit.shots,
        "seed": unit.seed,
        "metric": metric,
        "method": protocol.method,
        "init": None if protocol.zero_shot else protocol.init,
        "seconds": seconds,
        "error": error,
        "trials": trials,
    }
    if ran is not None:
        told |= {
            "score": ran.score,
            "error_test": ran.error_test,
            "test_images": ran.test_images,
            "trained_on": ran.trained_on,
            "warnings": ran.warnings,
        }
    if ran is not None and ran.outcome is not None:
        outcome = ran.outcome
        told |= {
            "trainable": outcome.trainable,
            "learning_rate": outcome.learning_rate,
            "weight_decay": outcome.weight_decay,
            "epochs": outcome.epochs,
            "validation_score": outcome.validation_score,
            "notes": outcome.notes | _cost(unit, ran, trials),
        }
    return Record(**told)


def _cost(unit: Unit, ran: Ran, trials: int) -> dict[str, float]:
    """Passes of images through a frozen encoder, and what the published toolkit would have made of them."""
    if unit.protocol.method != "linear_probe":
        return {}
    return {
        "encoder_passes": encoder_passes(ran.trained_on, ran.test_images),
        "reference_encoder_passes": reference_passes(ran.trained_on, ran.test_images, trials),
    }


def as_error(problem: Problem) -> dict[str, Any]:
    """What a record says of a unit that could not be run."""
    told = {"code": problem.code, "title": problem.title, "detail": problem.detail or problem.title}
    return told | ({"remedy": problem.remedy} if problem.remedy else {})


def clock(since: float, so_far: float = 0.0) -> float:
    """Seconds since a monotonic moment, to a millisecond."""
    return round(so_far + time.monotonic() - since, 3)
