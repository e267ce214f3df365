"""What a benchmark job is asked for: models x data sets x protocols x shots x seeds. Read by the gateway: no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.evaluation.protocols import Protocol, protocol
from services.evaluation.suites.registry import DEFAULT_TEMPLATES
from services.evaluation.tasks import MetricName

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Shots = Annotated[int, Field(ge=1, le=100_000)] | Literal["full"]


class BenchmarkParameters(BaseModel):
    """Which models are measured on what, and how."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "suite": "pocket",
                    "models": ["photo-zero-shot"],
                    "protocols": ["zero-shot", "linear-probe-language"],
                    "shots": [5],
                }
            ]
        },
    )

    suite: Name = Field("pocket", description="A suite, or `dataset:` and the id or name of a data set of yours")
    datasets: list[Name] | None = Field(
        None, min_length=1, max_length=100, description="Sets of the suite; all when absent"
    )
    models: list[Name] = Field(
        min_length=1,
        max_length=50,
        description="Image encoders, open-vocabulary models, or detectors for sets with boxes",
    )
    protocols: list[Name | Protocol] = Field(
        ["zero-shot", "linear-probe-language"], min_length=1, max_length=50, description="By name, or each as an object"
    )
    shots: list[Shots] = Field([5], min_length=1, max_length=20, description="Images of a class to adapt to, or `full`")
    seeds: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(
        [0, 1, 2], min_length=1, max_length=50, description="Each draws other shots"
    )
    mode: Literal["strict", "reference"] = Field(
        "strict",
        description="`reference` repeats the published toolkit with its quirks, `strict` never tunes on test images",
    )
    metric: MetricName | None = Field(
        None, description="For a data set of yours; the usual one of its task when absent"
    )
    templates: list[Annotated[str, StringConstraints(max_length=1000)]] = Field(
        list(DEFAULT_TEMPLATES), min_length=1, max_length=128, description="For a data set of yours: texts of a class"
    )
    knowledge: Name | None = Field(None, description="`artifact:{id}` of a JSON file that says more of the classes")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Searched when absent")
    weight_decay: float | None = Field(None, ge=0, le=1e6, description="Searched when absent")
    epochs: int = Field(50, ge=1, le=10_000, description="Of the last training, at most")
    search: Literal["reference", "optuna"] | None = Field(
        None,
        description="ELEVATER's grid, or few trials by Parzen estimators; absent: the first for heads alone, "
        "where max_trials does not cut it short",
    )
    max_trials: int | None = Field(None, ge=1, le=10_000, description="Of one search; the whole search when absent")
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="Of the whole job: searches and trainings end sooner, what is not begun is skipped",
    )
    test_limit: int | None = Field(
        None, ge=2, description="Images to test on at most, the same for all; all when absent"
    )
    predictions: bool = Field(False, description="Keep every probability, for ELEVATER's submission zip")

    def resolved(self) -> tuple[Protocol, ...]:
        """Protocols in order, each name once. Raises ``protocol-unknown``."""
        found = [protocol(one) if isinstance(one, str) else one for one in self.protocols]
        return tuple({one.name: one for one in found}.values())
