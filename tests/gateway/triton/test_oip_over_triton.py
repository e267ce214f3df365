"""``/v2`` over Triton."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from gateway.app import create_app
from tests.gateway.oip.test_routes import *  # noqa: F403 - the same tests
from tests.gateway.oip.test_routes import INFER, binary
from tests.support import asgi
from tests.support.triton_suite import Shared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory, shared_triton: Shared) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi.client(create_app(shared_triton.settings(tmp_path_factory.mktemp("oip") / "data"))) as client:
        yield client


async def test_statistics_count_requests_rows_and_batches(own: httpx.AsyncClient) -> None:
    """In place of the test of the same name: Triton's counters are of all that it ever did."""
    path = "/v2/models/tiny-adder/stats"
    content, headers = binary(rows=3)

    async def counted() -> tuple[int, int, int]:
        (told,) = (await own.get(path)).json()["model_stats"]
        assert told in (await own.get("/v2/models/stats")).json()["model_stats"]
        assert sum(size["compute_infer"]["count"] for size in told["batch_stats"]) == told["execution_count"]
        return told["inference_count"], told["inference_stats"]["success"]["count"], told["execution_count"]

    before = await counted()
    for _ in range(4):
        assert (await own.post(INFER, content=content, headers=headers)).status_code == 200
    after = await counted()
    assert [now - then for now, then in zip(after, before, strict=True)] == [12, 4, 4]
