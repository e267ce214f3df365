"""One Triton server through its gRPC interface: one connection that is kept, and what its failures mean.

The messages are those of ``tritonclient``; its client classes are not used, since they copy every tensor once more and
turn the status of a failed call, which decides whether it may be tried elsewhere, into text.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

Fault = Literal["away", "silent", "dead", "absent", "refused", "late", "broken"]

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By default a channel waits up to two minutes between two attempts to reach a server that was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Each gateway process has a connection of its own, and so has a server that comes back on the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries are ours: only another server is worth a second try.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

LOAD_SECONDS = 120.0
ASK_SECONDS = 5.0

_TRANSPORT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_NOT_HERE = ("unknown model", "is not ready", "scheduler for model has stopped")


class Failure(Exception):
    """What went wrong with one call, by what can be done about it.

    ``away``: the server was not reached, or stops. ``silent``: :meth:`Channel.cut` gave it up. ``dead``: the process of
    this model has died while the server says that all is well. ``absent``: the server does not have the model or
    version. ``refused``: it does not accept the values. ``late``: the deadline came. ``broken``: anything else that
    the server or its model said.
    """

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail


class Channel:
    """See the module's docstring. ``address``: ``host:port``, with ``grpcs://`` before it for TLS."""

    def __init__(self, address: str) -> None:
        self.address = address
        target = address.removeprefix("grpcs://").removeprefix("grpc://")
        if address.startswith("grpcs://"):
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._calls: dict[Any, str] = {}
        self._cut: set[Any] = set()

    async def close(self) -> None:
        await self._channel.close()

    async def infer(self, request: Any, seconds: float, traceparent: str = "") -> Any:
        """One inference. Raises :class:`Failure`; a cancelled caller cancels the call at the server, too."""
        metadata = (("traceparent", traceparent),) if traceparent else None
        call = self._stub.ModelInfer(request, timeout=seconds, metadata=metadata)
        self._calls[call] = request.model_name

        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
        except asyncio.CancelledError:
            if call in self._cut:
                raise Failure("silent", "it stopped answering") from None
            raise
        finally:
            del self._calls[call]
            self._cut.discard(call)

    def cut(self, model: str | None = None) -> None:
        """End every inference that is under way, or every one of ``model``: nobody expects an answer any more."""
        for call, of in list(self._calls.items()):
            if model in (None, of):
                self._cut.add(call)
                call.cancel()

    async def live(self, seconds: float) -> None:
        """Return if the server answers; raises :class:`Failure`."""
        answer = await self._ask(self._stub.ServerLive, service_pb2.ServerLiveRequest(), seconds)
        if not answer.live:
            raise Failure("away", "it says that it is not live")

    async def index(self) -> dict[tuple[str, str], tuple[str, str]]:
        """State and reason of every model and version that the server knows."""
        answer = await self._ask(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest())
        return {(one.name, one.version): (one.state, one.reason) for one in answer.models}

    async def load(self, model: str, configuration: str | None = None) -> None:
        """Load, or load anew; what the model's folder says when no configuration is given."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if configuration is not None:
            request.parameters["config"].string_param = configuration
        await self._ask(self._stub.RepositoryModelLoad, request, LOAD_SECONDS)

    async def unload(self, model: str) -> None:
        """Ask the server to let go of every version; it does so after having answered."""
        await self._ask(
            self._stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name=model), LOAD_SECONDS
        )

    async def statistics(self, model: str, version: str) -> Any:
        """Triton's ``ModelStatistics`` message of one version."""
        request = service_pb2.ModelStatisticsRequest(name=model, version=version)
        answer = await self._ask(self._stub.ModelStatistics, request, 1.0)
        return answer.model_stats[0]

    async def share(self, region: str, key: str, size: int) -> None:
        """Let the server read the shared memory ``key``, to be called ``region``."""
        request = service_pb2.SystemSharedMemoryRegisterRequest(name=region, key=key, offset=0, byte_size=size)
        await self._ask(self._stub.SystemSharedMemoryRegister, request)

    async def unshare(self, region: str) -> None:
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=region)
        await self._ask(self._stub.SystemSharedMemoryUnregister, request, 1.0)

    async def _ask(self, method: Any, request: Any, seconds: float = ASK_SECONDS) -> Any:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    code, detail = error.code(), (error.details() or "").strip()[:400]
    if "is not healthy" in detail:
        return Failure("dead", detail)
    if code is grpc.StatusCode.NOT_FOUND or any(words in detail for words in _NOT_HERE):
        return Failure("absent", detail)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure("late", detail)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return Failure("refused", detail)
    if code in _TRANSPORT or "tream removed" in detail:
        return Failure("away", detail)
    return Failure("broken", detail or code.name)
