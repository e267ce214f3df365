"""A task over a program of the torch worker, as a line brings it: ``/v1/flow``, whose answer may come in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from gateway.request.body import Answer, ModelName, TaskBody
from gateway.stream import Event, Events
from gateway.tasks.task import Task, TaskCall
from services.runtime.protocol import Tensor


class FlowBody(TaskBody):
    """Where a latent is to go."""

    model: ModelName | None = Field(None, description="A model with a latent")
    target: Annotated[list[float], Field(min_length=10, max_length=10)] = Field(description="Where its output is to be")
    steps: Annotated[int, Field(ge=1, le=100_000)] = Field(description="How many times it moves")
    stream: bool = Field(False, description="Whether each step is told")


class FlowAnswer(Answer):
    """Where it came to."""

    z: list[float] = Field(description="The latent")


def _tensors(body: FlowBody) -> dict[str, Tensor]:
    return {
        "z": np.zeros((1, 6), np.float32),
        "target": np.array([body.target], np.float32),
        "steps": np.array([[body.steps]], np.int64),
    }


def _document(outputs: Mapping[str, Tensor], body: FlowBody) -> dict[str, Any]:
    return {"z": outputs["z"][0]}


async def _run(service: None, call: TaskCall[FlowBody]) -> Mapping[str, Tensor]:
    return (await call.model.infer(_tensors(call.body), ("z",), call.options)).outputs


async def _stream(service: None, call: TaskCall[FlowBody]) -> Events:
    async for part in call.model.stream(_tensors(call.body), ("z",), call.options):
        yield Event(_document(part.outputs, call.body), name="done" if part.final else "preview")


FLOW: Task[FlowBody, None, Mapping[str, Tensor]] = Task(
    name="flow",
    path="/v1/flow",
    tag="Flows",
    summary="Move a latent",
    description="Where does the latent come to?",
    body=FlowBody,
    answer=FlowAnswer,
    examples={"one": {"value": {"target": [0.0] * 10, "steps": 3}}},
    service=lambda backend, settings: None,
    default_model=lambda sent, settings: "tiny-flow",
    run=_run,
    stream=_stream,
    document=_document,
)
SHORT = replace(FLOW, name="flow-in-a-second", path="/v1/flow-in-a-second", deadline=lambda settings: 1.0)
