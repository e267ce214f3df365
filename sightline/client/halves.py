"""The blocking and the asynchronous half of the client, over methods that are written once.

Every method is a coroutine (or an asynchronous iterator) that reaches the network through :class:`Network` alone. In
:class:`AsyncClient` the caller's event loop runs it. In :class:`Client` the network blocks, so nothing in the
coroutine is ever suspended: :func:`run` drives it by hand from beginning to end and needs no event loop, as httpx
drives the one ``auth_flow`` generator of both its clients.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import httpx

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 1 << 18
"""Bytes of a file that are read or written at a time."""


class Network(Protocol):
    """What the methods need of the world; ``blocking`` says that none of these ever suspends its caller."""

    blocking: bool

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient: ...

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer, its body not read yet: ``aread``, ``aiter_lines`` and ``aclose`` are what both halves have."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def compute(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which reads files or takes a while; other tasks of the event loop go on."""
        ...


class BlockingNetwork:
    """Blocks the calling thread. ``http`` may be used from several."""

    blocking = True

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        response = self.http.send(request, stream=True)
        assert isinstance(response.stream, httpx.SyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Awaitable(response.stream),
            request=request,
            extensions=response.extensions,
        )

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (no event loop runs this)

    async def compute(self, work: Callable[[], T]) -> T:
        return work()


class AsyncNetwork:
    """Waits on the event loop."""

    blocking = False

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self.http.send(request, stream=True)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def compute(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


N = TypeVar("N", bound=Network)


class _Method:
    """A method written once. Either half finds it under the same name, with the same documentation and signature."""

    def __init__(self, awaited: Callable[..., Any], drive: Callable[[Any], object]) -> None:
        self.__doc__ = awaited.__doc__
        self.awaited = awaited

        signature = inspect.signature(awaited)
        returns = str(signature.return_annotation).removeprefix("Async")  # AsyncIterator[Job] is an Iterator[Job] there
        self.blocking = functools.wraps(awaited)(lambda *args, **options: drive(awaited(*args, **options)))
        self.blocking.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]

    def _of(self, owner: Half[Any] | None) -> Callable[..., Any]:
        return self.awaited if owner is None else MethodType(self.function(owner._network), owner)

    def function(self, network: Network | type[Network]) -> Callable[..., Any]:
        """The plain function that objects over ``network`` have."""
        return self.blocking if network.blocking else self.awaited


class Half(Generic[N]):
    """An object whose methods reach the platform over ``N``: the type that tells the two halves apart."""

    def __init__(self, network: N) -> None:
        self._network = network

    def __init_subclass__(cls, *, network: type[Network] | None = None) -> None:
        """Give a class that is made for one ``network`` plain functions, which ``help`` and mocks understand."""
        super().__init_subclass__()
        if network is None:
            return
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if isinstance(method, _Method):
                setattr(cls, name, method.function(network))


class call(_Method, Generic[P, T]):
    """Make a coroutine function the method of both halves: awaited in one, run to its end in the other.

    >>> class Greetings(Half[N]):
    ...     @call
    ...     async def greet(self, name: str) -> str:
    ...         await self._network.sleep(0.0)
    ...         return f"hello {name}"
    >>> Greetings(BlockingNetwork(httpx.Client())).greet("you")
    'hello you'
    >>> asyncio.run(Greetings(AsyncNetwork(httpx.AsyncClient())).greet("you"))
    'hello you'
    """

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        super().__init__(method, run)

    @overload
    def __get__(self, owner: Half[BlockingNetwork], kind: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Half[AsyncNetwork], kind: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Callable[..., Any]: ...
    def __get__(self, owner: Half[Any] | None, kind: type[Any]) -> Callable[..., Any]:
        return self._of(owner)


class stream(_Method, Generic[P, T]):
    """Make a function that returns an asynchronous iterator the method of both halves: ``for`` and ``async for``."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> None:
        super().__init__(method, iterate)

    @overload
    def __get__(self, owner: Half[BlockingNetwork], kind: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, owner: Half[AsyncNetwork], kind: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Callable[..., Any]: ...
    def __get__(self, owner: Half[Any] | None, kind: type[Any]) -> Callable[..., Any]:
        return self._of(owner)


def run(method: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine over a :class:`BlockingNetwork`."""
    try:
        method.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    method.close()
    raise RuntimeError("a method of the blocking client awaited something that is not its network")


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an asynchronous iterator over a :class:`BlockingNetwork`; closing this closes it."""
    assert isinstance(items, AsyncGenerator)
    try:
        while True:
            try:
                item = run(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())


class FileContent(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The bytes of a file as the body of a request, a piece at a time, for either half."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk


class _Awaitable(httpx.AsyncByteStream):
    """The body of a blocking answer under the names that an asynchronous one has."""

    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        self._body.close()
