"""What a task of the API is, a row of ``gateway.tasks.TASKS``, and what happens to every request of any of them.

The request is admitted, read and checked; the model is found; images are decoded; the task's own function runs; its
result becomes the answer. A client that leaves ends all of it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from gateway import openapi
from gateway.context import Context
from gateway.middleware.keys import allow
from gateway.request.admission import Place
from gateway.request.body import TaskBody
from gateway.request.disconnect import while_connected
from gateway.request.form import form_of
from gateway.request.parsing import Sent, read_request
from gateway.request.request_context import RequestContext
from gateway.stream import DONE, EVENT_SCHEMA, Events, EventStream
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Backend, ModelHandle, Options
from services.settings import Settings
from services.stages import Stages

B = TypeVar("B", bound=TaskBody)
S = TypeVar("S")
R = TypeVar("R")

UNIT_IMAGES = 16
UNIT_PIXELS = 25_000_000
UNIT_TEXTS = 512
"""What one unit of admission stands for: a request within all three costs 1, as every request did before costs."""


@dataclass(slots=True)
class TaskCall(Generic[B]):
    """One request of a task, ready to be worked on.

    ``images`` are those of the fields ``image`` and ``images`` in order; ``others`` those of any other field, by the
    JSON pointer of where they stood (``/examples/0/image``). ``model`` stays open until the request ends.
    """

    body: B
    model: ModelHandle
    images: Sequence[Picture]
    others: Mapping[str, Picture]
    options: Options
    stages: Stages


@dataclass(slots=True)
class Size:
    """What a request asks to be worked on, for its cost: images, their pixels as their headers say."""

    images: int
    pixels: int


def ordinary_cost(body: TaskBody, size: Size) -> int:
    """The cost of a request about images: 1 up to 16 images and 25 megapixels together, and in proportion beyond."""
    return units(size.images / UNIT_IMAGES, size.pixels / UNIT_PIXELS)


def units(*shares: float) -> int:
    """Whole units of admission of a request that is this many times as large as an ordinary one, by each measure."""
    return max(1, math.ceil(max(shares)))


def ordinary_deadline(settings: Settings) -> float:
    """Seconds for one request where a task has no time of its own."""
    return settings.deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[B, S, R]):
    """One row: a task as the gateway, its document and its metrics know it.

    ``name`` is also the ``task`` label of metrics. ``body`` says the fields, from which the form is derived; a body
    with ``image`` or ``images`` is also read as a form with files and as an image with query parameters (all fields
    that have such a form but ``not_in_query``). ``service`` is built once a process; tasks
    that name the same share one.

    A request then passes: ``default_model``, the model where the request names none; ``check``, what its fields must
    be together; ``cost``, how many ordinary requests it counts as, before an image is decoded; ``run``, which answers
    within ``deadline`` seconds of the first byte; and ``document``, the answer as JSON (NumPy arrays are written as
    arrays of numbers). A task that can also answer in parts has ``stream``, a generator of events for requests whose
    field ``stream`` is true, all of which come within ``deadline``; see :mod:`gateway.stream`.
    """

    name: str
    path: str
    tag: str
    summary: str
    description: str
    body: type[B]
    answer: type[BaseModel]
    examples: Mapping[str, Mapping[str, Any]]
    service: Callable[[Backend, Settings], S]
    default_model: Callable[[Sent[B], Settings], str]
    run: Callable[[S, TaskCall[B]], Awaitable[R]]
    document: Callable[[R, B], object]
    stream: Callable[[S, TaskCall[B]], Events] | None = None
    check: Callable[[Sent[B]], None] = lambda sent: None
    cost: Callable[[B, Size], int] = ordinary_cost
    deadline: Callable[[Settings], float] = ordinary_deadline
    not_in_query: tuple[str, ...] = ()


class Endpoint(Generic[B, S, R]):
    """A task in one process."""

    def __init__(self, task: Task[B, S, R], context: Context, service: S) -> None:
        self.task = task
        self._context = context
        self._form = form_of(task.body, context.settings)
        self._service = service
        self._has_version = "version" in self._form.fields
        self._deadline = task.deadline(context.settings)

    async def serve(self, request: Request) -> Response:
        """Answer one request."""
        allow(request, "infer")
        request_context = RequestContext.of(request.scope)
        request_context.task = self.task.name
        request_context.deadline = request_context.started + self._deadline
        admission, settings = self._context.admission, self._context.settings

        with admission.admit() as place:
            sent = await read_request(request, self._form, settings.max_images, admission.turn)
            if self.task.stream is not None and getattr(sent.body, "stream", False):
                return await while_connected(request.receive, self._streamed(request, request_context, sent, place))
            result = await while_connected(request.receive, self._work(request_context, sent, place))

        begin = time.perf_counter()
        content = orjson.dumps(self.task.document(result, sent.body), option=orjson.OPT_SERIALIZE_NUMPY)
        request_context.stages.encode += time.perf_counter() - begin
        return Response(content, media_type="application/json")

    async def _work(self, request_context: RequestContext, sent: Sent[B], place: Place) -> R:
        task, body = self.task, sent.body
        with await self._model(request_context, sent) as model:
            self.task.check(sent)
            if not sent.images and not sent.others:
                place.grow(task.cost(body, Size(0, 0)))
                return await task.run(
                    self._service, TaskCall(body, model, (), {}, request_context.options(), request_context.stages)
                )
            async with self._images(request_context, sent, place) as images:
                return await task.run(self._service, _call(request_context, sent, model, images))

    async def _streamed(
        self, request: Request, request_context: RequestContext, sent: Sent[B], place: Place
    ) -> EventStream:
        """The answer in parts, once its first part is there; it holds the place until its end."""
        key_id = "" if request_context.caller is None else request_context.caller.key_id
        with contextlib.ExitStack() as held:
            held.enter_context(self._context.streams.one_of(key_id))
            moved = held.push(place.moved())
            events = self._events(request_context, sent, moved)
            deadline = request_context.deadline
            answer = EventStream(events, request.scope, end=DONE, held=held.pop_all(), deadline=deadline)
            return await answer.begin()

    async def _events(self, request_context: RequestContext, sent: Sent[B], place: Place) -> Events:
        assert self.task.stream is not None
        with await self._model(request_context, sent) as model:
            self.task.check(sent)
            async with self._images(request_context, sent, place) as images:
                call = _call(request_context, sent, model, images)
                async with contextlib.aclosing(self.task.stream(self._service, call)) as events:
                    async for event in events:
                        yield event

    async def _model(self, request_context: RequestContext, sent: Sent[B]) -> ModelHandle:
        """The model that answers: looked up once a request."""
        name = self.task.default_model(sent, self._context.settings)
        version = getattr(sent.body, "version", None) if self._has_version else None
        return await self._context.resolve(request_context, sent.body.model or name, version)

    def _images(
        self, request_context: RequestContext, sent: Sent[B], place: Place
    ) -> contextlib.AbstractAsyncContextManager[list[Picture]]:
        """All images of a request, decoded once its size is admitted."""

        def admit(pixels: int) -> None:
            place.grow(self.task.cost(sent.body, Size(len(sent.images) + len(sent.others), pixels)))

        return self._context.read_images(request_context, [*sent.images, *sent.others], admit)

    def describe(self, router: APIRouter) -> None:
        """Add the route to a router of FastAPI's, for the document."""
        task, form = self.task, self._form
        refusals: tuple[int, ...] = (*openapi.ASKED, *openapi.WITH_BODY, 404, 504)
        extra = openapi.body(task.body, dict(task.examples), openapi.files(task.body) if form.takes_images else {})
        if form.takes_images:
            refusals += openapi.WITH_QUERY
            names = [name for name in form.in_query if name not in task.not_in_query]
            extra["parameters"] = openapi.query_fields(task.body, names)

        streamed: dict[int | str, dict[str, Any]] = {}
        if task.stream is not None:
            streamed[200] = {"content": {"text/event-stream": {"schema": EVENT_SCHEMA}}}

        router.add_api_route(
            task.path,
            self.serve,
            methods=["POST"],
            name=task.name,
            tags=[task.tag],
            summary=task.summary,
            description=task.description,
            response_model=task.answer,
            responses=openapi.refusals(*refusals) | streamed,
            openapi_extra=extra,
        )


def _call(request_context: RequestContext, sent: Sent[B], model: ModelHandle, images: list[Picture]) -> TaskCall[B]:
    count = len(sent.images)
    others = {pointer: image for (pointer, _), image in zip(sent.others, images[count:], strict=True)}
    return TaskCall(sent.body, model, images[:count], others, request_context.options(), request_context.stages)


def need_images(sent: Sent[Any]) -> None:
    """Raise ``image-missing`` for a request that is about images and holds none."""
    if not sent.images:
        raise Problem(
            Kind.INVALID,
            "image-missing",
            "There is no image",
            "The request holds no image.",
            pointer="/image",
            remedy="Send `image`, or several as `images`.",
        )
