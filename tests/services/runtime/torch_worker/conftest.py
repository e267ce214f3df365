"""What tests of the torch worker share: settings of a worker and of gateways, and backends over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from services.runtime.onnx.backend import OnnxBackend
from services.settings import Settings
from tests.support.torch_worker import StepsObserver

Serving = Callable[..., AbstractAsyncContextManager[OnnxBackend]]


@pytest.fixture
def torch_settings(settings: Settings) -> Settings:
    """One thread, so that sums are made in one order."""
    return settings.model_copy(update={"torch_threads": 1, "torch_device": "cpu", "log_level": "info"})


@pytest.fixture
def observer() -> StepsObserver:
    return StepsObserver()


@pytest.fixture
def serving(torch_settings: Settings, observer: StepsObserver) -> Serving:
    """A gateway's backend; the worker is somebody else's."""

    @asynccontextmanager
    async def serve(**changes: object) -> AsyncIterator[OnnxBackend]:
        backend = OnnxBackend(torch_settings.model_copy(update=changes), observer=observer)
        await backend.start()
        try:
            yield backend
        finally:
            await backend.close()

    return serve
