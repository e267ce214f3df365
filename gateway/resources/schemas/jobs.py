"""Bodies of ``/v1/jobs``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.request.body import Answer, Body, PlainText

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

MAX_URL = 2_000


class WebhookBody(Body):
    """Where to tell of the end of the job."""

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL)] = Field(
        description="An https address of a public host", examples=["https://example.com/hooks/sightline"]
    )
    secret: Annotated[PlainText, Field(min_length=16, max_length=512)] = Field(
        description="Signs what is sent, as the Standard Webhooks specification says; never shown again",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


class JobBody(Body):
    """What to do."""

    kind: Annotated[PlainText, Field(max_length=64)] = Field(description="The kind of job", examples=["batch"])
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="What the kind asks for",
        examples=[{"input": [{"url": "/v1/classify", "body": {"image": "..."}}]}],
    )
    priority: Annotated[int, Field(ge=0, le=9)] = Field(0, description="Waiting jobs with more go first")
    webhook: WebhookBody | None = Field(None, description="Tells a server of yours when the job has ended")


class Progress(Answer):
    """How far a job is."""

    step: int | None = Field(description="Pieces done")
    total: int | None = Field(description="Pieces in all, as far as it is known")
    message: str | None
    metrics: dict[str, float | None] = Field(description="The latest of each")


class JobArtifact(Answer):
    """Something that a job made."""

    id: str = Field(
        description="To name it in requests as `artifact:{id}`", examples=["art_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"]
    )
    name: str = Field(examples=["results.jsonl"])
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    url: str = Field(description="Where to get it")


class Job(Answer):
    """A job. Times in Unix seconds."""

    object: Literal["job"] = Field(description="Always `job`")
    id: str = Field(examples=["job_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"])
    kind: str
    state: JobState
    priority: int
    progress: Progress
    attempt: int = Field(description="How often a worker has begun it; more than 1 when workers stopped or died")
    cancel_requested: bool = Field(description="It was asked to stop, and will at its next step")
    created_at: float
    started_at: float | None
    finished_at: float | None
    parameters: dict[str, Any] | None = Field(None, description="As submitted, with defaults; not in lists")
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="A problem, once the job has failed")
    artifacts: list[JobArtifact]


class JobList(Answer):
    """Jobs, newest first."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Job]
    has_more: bool = Field(description="Whether there are older ones: ask again with `after` = `last_id`")
    first_id: str | None
    last_id: str | None


class JobEvent(Answer):
    """Something that happened to a job. `id` counts from 1 without gaps, save for old progress that is forgotten."""

    id: int
    event: Literal["progress", "state", "metric", "log"]
    data: dict[str, Any]
    at: float = Field(description="Unix seconds")


class JobEventList(Answer):
    """Events, oldest first."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[JobEvent]
    has_more: bool


class WebhookAttempt(Answer):
    """One try to deliver a webhook."""

    delivery: str = Field(description="The `webhook-id` that was sent: the same for every try")
    event: str = Field(examples=["job.succeeded"])
    number: int = Field(description="Counts from 1")
    at: float = Field(description="Unix seconds")
    status: int | None = Field(description="What the server answered")
    error: str | None = Field(description="Why there was no answer")
    seconds: float


class WebhookLog(Answer):
    """Every try to deliver a job's webhooks, oldest first."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[WebhookAttempt]


class Deleted(Answer):
    """What was removed."""

    id: str
    object: str
    deleted: Literal[True]
