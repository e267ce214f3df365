"""What runs the units of each task. Only jobs import this; each function imports one task's own code."""

from __future__ import annotations

from collections.abc import Callable

from services.evaluation.bench import TaskRunner


def _classification() -> TaskRunner:
    from services.evaluation.tasks.classification.bench import RUNNER

    return RUNNER


def _detection() -> TaskRunner:
    from services.evaluation.tasks.detection.bench import RUNNER

    return RUNNER


RUNNERS: dict[str, Callable[[], TaskRunner]] = {
    "classification": _classification,
    "multilabel": _classification,
    "detection": _detection,
}


def runner(task: str) -> TaskRunner:
    """Import what runs the units of data sets of ``task``, one of :data:`services.evaluation.tasks.RUN`."""
    return RUNNERS[task]()
