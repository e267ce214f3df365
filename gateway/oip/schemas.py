"""The Open Inference Protocol's bodies, for the OpenAPI document; ``gateway.oip`` reads and writes them itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.request.body import Answer


class OipError(Answer):
    """Every refusal under ``/v2``."""

    error: str = Field(description="What happened, and what to do")


class ServerLive(Answer):
    """The process lives."""

    live: bool = Field(description="Always true in an answer")


class ServerReady(Answer):
    """The process takes work."""

    ready: bool = Field(description="False while models load at the start, and while the process drains")


class ModelReady(Answer):
    """The model can answer."""

    name: str = Field(description="As it was asked for", examples=["minilm-l6"])
    ready: bool = Field(description="Whether a request would be answered")


class ServerMetadata(Answer):
    """What runs here, and what it can do beyond the protocol's core."""

    name: str = Field(description="Always `sightline`", examples=["sightline"])
    version: str = Field(description="Of the API", examples=["1"])
    extensions: list[str] = Field(description="By Triton's names", examples=[["binary_tensor_data"]])


class Tensor(Answer):
    """One input or output."""

    name: str = Field(description="By which a request sends it or asks for it", examples=["input_ids"])
    datatype: str = Field(description="Element type", examples=["INT64"])
    shape: list[int] = Field(description="The batch axis first; -1 is any size", examples=[[-1, -1]])


class ModelMetadata(Answer):
    """A model's signature."""

    name: str = Field(description="Of the model", examples=["minilm-l6"])
    versions: list[str] = Field(description="Those that are ready", examples=[["1"]])
    platform: str = Field(description="Kind of model, by Triton's names", examples=["onnxruntime_onnx"])
    inputs: list[Tensor] = Field(description="All are needed")
    outputs: list[Tensor] = Field(description="All are given unless some are asked for")


class ModelConfig(Answer):
    """Triton's ``ModelConfig`` in JSON."""

    name: str = Field(description="Of the model", examples=["minilm-l6"])
    platform: str = Field(description="Kind of model, by Triton's names", examples=["onnxruntime_onnx"])
    backend: str = Field(description="The engine of its card", examples=["onnxruntime"])
    max_batch_size: int = Field(description="0 for a model without a batch axis", examples=[16])
    input: list[dict[str, Any]] = Field(description="`name`, `data_type`, `dims` without the batch axis")
    output: list[dict[str, Any]] = Field(description="As the inputs, and `label_filename`")


class ModelStatistics(Answer):
    """Triton's statistics of one version, since it was loaded; times in nanoseconds."""

    name: str = Field(description="Of the model", examples=["minilm-l6"])
    version: str = Field(description="Of the model", examples=["1"])
    last_inference: int = Field(description="Unix time in milliseconds")
    inference_count: int = Field(description="Rows")
    execution_count: int = Field(description="Batches")
    inference_stats: dict[str, Any] = Field(description="Count and time: success, fail, queue, compute")
    batch_stats: list[dict[str, Any]] = Field(description="Count and time of batches by size")


class StatisticsList(Answer):
    """Statistics of ready versions."""

    model_stats: list[ModelStatistics] = Field(description="One entry a version")


class IndexEntry(Answer):
    """One version in the repository."""

    name: str = Field(description="Of the model", examples=["minilm-l6"])
    version: str = Field(description="Its folder", examples=["1"])
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"] = Field(description="READY answers requests")
    reason: str = Field(description="Why it is not ready, or what is not as it was asked for")


class OutputTensor(Tensor):
    """One output: its ``data``, or ``parameters.binary_data_size`` and the bytes behind the JSON."""

    data: list[Any] | None = Field(None, description="Flat, in row-major order; null stands for NaN and infinity")
    parameters: dict[str, Any] | None = Field(None, description="`binary_data_size`, where the data is not here")


class InferAnswer(Answer):
    """The outputs of one inference."""

    model_name: str = Field(description="The model that answered", examples=["minilm-l6"])
    model_version: str = Field(description="Its version that answered", examples=["1"])
    id: str | None = Field(None, description="That of the request")
    outputs: list[OutputTensor] = Field(description="In the order asked for")


_PARAMETERS = {"type": "object", "additionalProperties": True}

INFER_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "Given back with the answer"},
        "parameters": {
            **_PARAMETERS,
            "description": "`binary_data_output`, `priority` (larger waits longer), `timeout` in microseconds",
        },
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "datatype": {"type": "string", "examples": ["FP32"]},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "parameters": {**_PARAMETERS, "description": "`binary_data_size`"},
                    "data": {"type": "array", "description": "Flat or nested, row-major"},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "parameters": {**_PARAMETERS, "description": "`classification`: best classes, `binary_data`"},
                },
            },
        },
    },
}
"""The JSON of an inference request, for the OpenAPI document."""
