"""The ``promote`` kind: the winner of a benchmark becomes a model version that serves.

It adapts the winner's encoder once more with the settings that its benchmark found, then exports, checks against the
trained model, writes the card and loads it, which is what fine-tuning does. ``POST /v1/jobs/{id}/promote`` submits it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models.catalog.card import MODEL_NAME
from services.errors import Problem
from services.evaluation.reports.winner import Choice, winner_of
from services.finetuning.kind import FAMILY
from services.jobs.kind import JobKind
from services.jobs.services import JobServices
from services.ownership import check_names


class PromoteParameters(BaseModel):
    """What is promoted, and what the model is called."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"benchmark": "job_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA", "name": "my-pets"}]},
    )

    benchmark: str = Field(description="Id of a benchmark job of yours that has succeeded", max_length=64)
    name: Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME.pattern}$")] = Field(
        description="The new model; a name of yours that exists gets a new version"
    )
    dataset: str | None = Field(None, max_length=200, description="Of the benchmark's; needed where it has several")
    model: str | None = Field(None, max_length=200, description="Only among the results of this model")
    protocol: str | None = Field(None, max_length=64, description="Only among the results of this protocol")


def check(services: JobServices, owner: str, parameters: PromoteParameters) -> None:
    """Refuse what has no winner that can be made a model, and names that are taken."""
    job = services.jobs.get(owner, parameters.benchmark)
    choice = Choice(parameters.dataset, parameters.model, parameters.protocol)
    try:
        winner_of(job.id, job.kind, job.state, job.result, choice)
    except Problem as problem:
        raise problem.at(f"/parameters{problem.pointer or '/benchmark'}") from None
    check_names(services.settings.models_dir, owner, [parameters.name], family=FAMILY)


KIND = JobKind("promote", "finetune", PromoteParameters, check=check)
