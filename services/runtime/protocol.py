"""The protocol that every engine speaks, and the values that cross it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Card
from services.runtime.version_policy import VersionPolicy

Tensor = NDArray[Any]
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]

UNLOADED = "unloaded on request"
"""The ``reason`` of a version that nobody wants served: no fault."""

NOT_WANTED = "not loaded"
"""That of one that nobody asked to load."""


@dataclass(frozen=True, slots=True)
class Options:
    """How one inference is to be treated. ``priority`` 0 is the most urgent, FIFO inside one.

    ``deadline`` is on the clock of ``time.perf_counter()``: work that cannot start before it is refused.
    ``traceparent`` names the trace that an engine of another process may go on with.
    """

    priority: int = 1
    deadline: float | None = None
    traceparent: str = ""

    @staticmethod
    def within(seconds: float, priority: int = 1) -> Options:
        return Options(priority=priority, deadline=time.perf_counter() + seconds)


@dataclass(frozen=True, slots=True)
class Inference:
    """The answer of one inference; times in seconds, ``batch_size`` the rows that ran together.

    ``final`` is false for what a stream gives before its answer is complete: some outputs, as they are so far.
    """

    outputs: dict[str, Tensor]
    version: str
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0
    batch_size: int = 0
    final: bool = True


@dataclass(slots=True)
class ModelStatus:
    """One version of a model as the runtime sees it."""

    name: str
    version: str
    state: State
    reason: str = ""
    runtime: str = ""
    providers: tuple[str, ...] = ()
    card: Card | None = None


@dataclass(slots=True)
class Statistics:
    """Counters since load, as Triton's statistics extension has them; times in nanoseconds.

    ``pending`` is no counter: the items that wait for a batch now.
    """

    inference_count: int = 0
    execution_count: int = 0
    success_count: int = 0
    success_ns: int = 0
    fail_count: int = 0
    fail_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    input_ns: int = 0
    output_ns: int = 0
    last_inference_ms: int = 0
    batch_counts: dict[int, int] = field(default_factory=dict)
    batch_ns: dict[int, int] = field(default_factory=dict)
    pending: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the torch worker says of itself. ``up``: connected; ``started`` in Unix seconds, memory in bytes (the limit
    0 where there is none), ``running`` and ``waiting`` the runs of all gateways."""

    up: bool
    started: float = 0.0
    resident: int = 0
    memory_limit: int = 0
    running: int = 0
    waiting: int = 0


class ModelHandle(Protocol):
    """One version of a model that is open, with the versions that it is made of: what a request works with throughout.

    ``parts`` holds the models of a pipeline by role, opened together with it; a model with tensors has none.
    ``generation`` tells what was opened apart from what was opened before under the same name and version.
    Used as a context it stays open until the end, whatever is loaded or unloaded in the meantime:

        with await backend.resolve("unicl-lite2") as model:
            pixels = ...
            answer = await model.parts["image"].infer({"image": pixels})

    Outside of one, :meth:`infer` may refuse with ``model-not-ready`` once another version has taken over.
    """

    @property
    def card(self) -> Card: ...

    @property
    def folder(self) -> Path:
        """The version folder, for the files that services read themselves (tokenizer, labels)."""
        ...

    @property
    def parts(self) -> Mapping[str, ModelHandle]: ...

    @property
    def generation(self) -> int: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def infer(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = Options()
    ) -> Inference:
        """Arrays of shape ``(B, ...)`` by input name to arrays ``(B, ...)`` by output name.

        Outputs may be views of the batch's; NaN and infinity go in and out as they are.
        """
        ...

    def stream(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None, options: Options = Options()
    ) -> AsyncGenerator[Inference, None]:
        """What :meth:`infer` gives, and before it, where a model computes in steps, some outputs as they are so far.

        The last one is ``final``. A reader that closes the generator stops the computation; one that is slow slows it
        down::

            async with aclosing(model.stream(inputs)) as parts:
                async for part in parts:
                    show(part.outputs["image"])
        """
        ...


_generations = count(1)


def next_generation() -> int:
    """A number for what is opened now, higher than all before it in this process."""
    return next(_generations)


class Backend(Protocol):
    """Runs models of a repository. ``version`` ``None`` is the latest that is ready.

    Every method raises :class:`services.errors.Problem`: ``model-not-found``, ``model-not-ready``, ``queue-full``,
    ``deadline-exceeded``, ``tensor-*`` (wrong name, shape or type).
    """

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def resolve(self, model: str, version: str | None = None, *, deadline: float | None = None) -> ModelHandle:
        """Return what serves ``model`` now: looked up once a request and handed down. Costs one ``stat``.

        Waits, until ``deadline``, for a model that is being loaded because another process was told to.
        """
        ...

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        version: str | None = None,
        outputs: Sequence[str] | None = None,
        options: Options = Options(),
    ) -> Inference:
        """:meth:`resolve` and :meth:`ModelHandle.infer`, for who asks once."""
        ...

    def stream(
        self,
        model: str,
        inputs: Mapping[str, Tensor],
        *,
        version: str | None = None,
        outputs: Sequence[str] | None = None,
        options: Options = Options(),
    ) -> AsyncGenerator[Inference, None]:
        """:meth:`resolve` and :meth:`ModelHandle.stream`, for who asks once."""
        ...

    async def load(self, model: str, policy: VersionPolicy | None = None) -> None:
        """Load, or reload, the versions of ``policy``: as it was before when absent, the latest at first.

        A failed load keeps the old.
        """
        ...

    async def unload(self, model: str) -> None:
        """Stop serving; requests in flight finish first."""
        ...

    async def settled(self, model: str, *, deadline: float | None = None) -> None:
        """Return once no load is on its way that another process has finished: before an answer about ``model``."""
        ...

    @property
    def generation(self) -> object:
        """Another value once any process has loaded, unloaded, shared or removed a model, as of the last look."""
        ...

    def ready(self, model: str, version: str | None = None) -> bool: ...

    def takes_work(self) -> bool:
        """Return whether there is anything that could run a model: false while servers that do so are away."""
        ...

    def index(self) -> list[ModelStatus]:
        """Every version in the repository, loaded or not."""
        ...

    @property
    def torch_worker(self) -> WorkerStatus | None:
        """How the torch worker is; ``None`` while no version that is served needs it."""
        ...

    def statistics(self, model: str, version: str) -> Statistics: ...

    async def counted(self, model: str | None = None) -> None:
        """Return once :meth:`statistics` of a model, or of all, are of this moment: others may be counting."""
        ...


def as_float32(array: Tensor) -> NDArray[np.float32]:
    """``array`` as contiguous float32, without a copy when it is so already."""
    return np.ascontiguousarray(array, dtype=np.float32)
