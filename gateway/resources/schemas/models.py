"""Models and label sets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.request.body import Answer

State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


class ModelVersion(Answer):
    """One version of a model."""

    version: str = Field(examples=["1"])
    state: State = Field(description="READY answers requests")
    reason: str = Field("", description="Why it is not ready")


class Counters(Answer):
    """What a model has done since it was loaded: in this process, or at all Triton servers that have it."""

    requests: int = Field(description="Requests answered; to Triton, a batch that a gateway has joined is one")
    failed: int = Field(description="Requests that failed or were refused")
    inferences: int = Field(description="Rows: pictures, texts, items of a tensor")
    batches: int = Field(description="Times that the network ran")
    queue_seconds: float = Field(description="Waited for a batch, all requests together")
    compute_seconds: float = Field(description="Computed, all requests together")
    pending: int = Field(description="Rows that wait in this process now")


class Model(Answer):
    """A model of the repository, in OpenAI's shape and with what there is to know about it."""

    id: str = Field(description="The name to send as `model`", examples=["photo-zero-shot"])
    object: Literal["model"] = Field(description="Always `model`")
    created: int = Field(description="When it came into the repository, in Unix seconds")
    owned_by: str = Field(description="The family that the model belongs to", examples=["efficientnet-lite"])
    task: str | None = Field(description="What it is for", examples=["zero-shot-classify"])
    version: str = Field(description="The version that answers when none is asked for", examples=["1"])
    state: State = Field(description="READY answers requests")
    runtime: str = Field(description="The engine that runs it", examples=["onnxruntime"])
    providers: list[str] = Field(
        description="What the engine really runs on, or the Triton servers that it works on",
        examples=[["CPUExecutionProvider"]],
    )
    statistics: Counters | None = Field(None, description="What the version shown has done; absent unless it is READY")
    versions: list[ModelVersion] = Field(description="Every version in the repository")
    card: dict[str, Any] | None = Field(description="Signature, licence, provenance, measured quality, limits")
    shared: bool | None = Field(
        None, description="Of a model that a job of a key has made: whether other keys may use it"
    )


class DeletedModel(Answer):
    """What is left of a model."""

    id: str = Field(description="The name that it had")
    object: Literal["model"] = Field(description="Always `model`")
    deleted: Literal[True] = Field(description="Always true")


class ModelList(Answer):
    """Every model of the repository, loaded or not."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[Model]


class LabelSet(Answer):
    """A named list of labels."""

    id: str = Field(description="The name to send as `label_set`", examples=["imagenet-1k"])
    object: Literal["label_set"] = Field(description="Always `label_set`")
    count: int = Field(description="How many labels it has", examples=[1000])
    labels: list[str] | None = Field(None, description="The labels in order; where one set is shown")


class LabelSetList(Answer):
    """Every label set that a request may name."""

    object: Literal["list"] = Field(description="Always `list`")
    data: list[LabelSet]
