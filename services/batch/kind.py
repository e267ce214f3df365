"""The ``batch`` kind: many requests to the platform's own inference endpoints, answered in one file, in order.

The form is OpenAI's: a line is ``{"custom_id", "method": "POST", "url": "/v1/classify", "body": {...}}``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.jobs.kind import JobKind
from services.jobs.services import JobServices

ENDPOINT = re.compile(r"^/v1/[a-z0-9_-]+(/[A-Za-z0-9_-]+)*$")
"""Addresses that a line may name. What the job's token does not open is refused by the gateway, line by line."""

INLINE_LINES = 10_000

Endpoint = Annotated[str, StringConstraints(pattern=ENDPOINT.pattern, max_length=200)]


class BatchParameters(BaseModel):
    """What a batch does: the lines, and what they have in common."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"input": "artifact:art_01J..."}]})

    input: Annotated[
        list[dict[str, Any]] | str,
        Field(
            description="The lines themselves, `artifact:{id}` of a JSONL file, or `dataset:{id}`: one line a picture"
        ),
    ]
    endpoint: Endpoint | None = Field(
        None, description="The `url` of lines that name none; of a data set `/v1/classify`", examples=["/v1/classify"]
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of every line's body that the line itself does not have",
        examples=[{"labels": ["a cat", "a dog"]}],
    )
    concurrency: int = Field(8, ge=1, le=64, description="Lines in flight at once")
    checkpoint_lines: int = Field(500, ge=1, le=100_000, description="Lines between two checkpoints, at most")

    @model_validator(mode="after")
    def _pictures_are_classified(self) -> BatchParameters:
        if self.endpoint is None and isinstance(self.input, str) and self.input.startswith("dataset:"):
            self.endpoint = "/v1/classify"
        return self


def check(services: JobServices, owner: str, parameters: BatchParameters) -> None:
    """Refuse at once what can never work: no lines, or an input that is not there or another's."""
    source = parameters.input
    if isinstance(source, list):
        if not 0 < len(source) <= INLINE_LINES:
            raise Problem(
                Kind.INVALID,
                "batch-input",
                "Batch has no lines, or too many",
                f"{len(source):,} lines were sent; 1 to {INLINE_LINES:,} can be.",
                pointer="/parameters/input",
                remedy="Upload longer inputs with POST /v1/artifacts and name them as artifact:{id}.",
            )
        return

    scheme, _, name = source.partition(":")
    if scheme in ("artifact", "dataset"):
        try:
            if scheme == "artifact":
                services.artifacts.get(owner, name)
            else:
                dataset_store(services.settings, services.engine, services.artifacts).get(owner, name)
        except Problem as problem:
            raise problem.at("/parameters/input") from None
    else:
        raise Problem(
            Kind.INVALID,
            "batch-input",
            "Batch input is not understood",
            f"{source[:64]!r} is neither lines nor artifact:{{id}} nor dataset:{{id}}.",
            pointer="/parameters/input",
        )


KIND = JobKind("batch", "batch", BatchParameters, check=check)
