"""Bodies of ``/v1/artifacts``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.request.body import Answer


class Artifact(Answer):
    """Content that belongs to a key: uploaded, or made by a job."""

    object: Literal["artifact"] = Field(description="Always `artifact`")
    id: str = Field(
        description="To name it in requests as `artifact:{id}`", examples=["art_01J9Z3N0V4Q4S3D6B8W2X5Y7ZA"]
    )
    name: str = Field(examples=["lines.jsonl"])
    media_type: str = Field(examples=["application/jsonl"])
    size: int = Field(description="Bytes")
    sha256: str
    job: str | None = Field(description="The job that made it")
    created_at: float = Field(description="Unix seconds")
    url: str = Field(description="Where to get the content")


class ArtifactList(Answer):
    """Artifacts, newest first."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Artifact]
    has_more: bool = Field(description="Whether there are older ones: ask again with `after` = `last_id`")
    first_id: str | None
    last_id: str | None
