"""A gRPC server that speaks just enough of Triton's protocol to watch what a client sends, and to misbehave on purpose.

For what a real server does not tell: metadata, deadlines, cancellations. Everything else is tested with tritonserver.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc


class Recorder(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Adds ``a`` and ``b``. ``dead``: says that the model's process has died; ``hangs``: never answers."""

    def __init__(self) -> None:
        self.address = ""
        self.dead = self.hangs = False
        self.rows: list[int] = []
        self.metadata: list[dict[str, str]] = []
        self.remaining: list[float] = []
        self.versions: list[str] = []
        self.cancelled = 0

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        entry = pb.RepositoryIndexResponse.ModelIndex(name="tiny-adder", version="1", state="READY")
        return pb.RepositoryIndexResponse(models=[entry])

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        return pb.RepositoryModelLoadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        a, b = (np.frombuffer(raw, np.float32) for raw in request.raw_input_contents)
        self.rows.append(len(a) // 4)
        self.versions.append(request.model_version)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())
        if self.dead:
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process 'tiny-adder_0_0' is not healthy.")
        try:
            await asyncio.sleep(60 if self.hangs else 0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        response = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        response.outputs.add(name="sum", datatype="FP32", shape=[len(a) // 4, 4])
        response.raw_output_contents.append((a + b).tobytes())
        return response


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """One that listens on a free port of this machine."""
    server, servicer = grpc.aio.server(), Recorder()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)
