"""What a benchmark, which knows no task, hands to the code that runs one, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from services.datasets.package import Package
from services.evaluation.named import Names
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.plan import Unit
from services.evaluation.reports.results import Record
from services.evaluation.suites.knowledge import ClassKnowledge
from services.evaluation.suites.preparing import Material
from services.finetuning.training.hooks import Hooks
from services.runtime.protocol import Backend, ModelHandle
from services.settings import Settings

Watch = Callable[[int, int], None]
"""Called with images done and images in all; may raise to stop."""

Predictions = Mapping[str, NDArray[Any]]
"""What a model put out for the test images, by name."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One model on one data set.

    ``model`` stays open, with all that is put into ``opened``. ``units`` are all that will be run. ``knowledge`` brings
    what is known of the classes, when a protocol asks for it.
    ``scratch`` is a folder of the attempt, which need not exist yet.
    """

    backend: Backend
    model: ModelHandle
    opened: ExitStack
    names: Names
    settings: Settings
    material: Material
    package: Package
    parameters: BenchmarkParameters
    units: Sequence[Unit]
    knowledge: Callable[[], Mapping[str, ClassKnowledge]]
    scratch: Path


@dataclass(frozen=True, slots=True)
class Ran:
    """What a unit came to: fields of its record, and the predictions that the score is of."""

    score: float
    error_test: float
    test_images: int
    predictions: Predictions
    trained_on: int = 0
    trainable: int = 0
    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None
    validation_score: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Bench(Protocol):
    """One model on one data set, ready to run its units."""

    async def run(self, unit: Unit, hooks: Hooks, watch: Watch, seconds: float | None = None) -> Ran:
        """``seconds`` are left for it. Raises :class:`Problem` where ``unit`` cannot be run."""
        ...


def no_notes(unit: Unit, ran: Ran, trials: int) -> Mapping[str, float]:
    """Note nothing beyond what ``ran`` has."""
    return {}


@dataclass(frozen=True, slots=True)
class TaskRunner:
    """How data sets of a task are run and reported.

    ``steps`` is how many steps of progress a unit is. ``notes`` adds figures to a record once its trials are counted.
    ``submission`` packs the predictions of one model, protocol and number of shots, as records with their predictions.
    """

    open: Callable[[Setting], Bench]
    steps: Callable[[BenchmarkParameters, Unit], int]
    notes: Callable[[Unit, Ran, int], Mapping[str, float]] = no_notes
    submission: Callable[[Path, Names, Sequence[tuple[Record, Predictions]]], bytes] | None = None
