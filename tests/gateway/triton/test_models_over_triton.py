"""``/v1/models`` over Triton."""

import httpx

from tests.gateway.resources.test_models import *  # noqa: F403 - the same tests
from tests.support.triton_suite import Shared


async def test_the_list_has_openais_shape_and_more(http: httpx.AsyncClient, shared_triton: Shared) -> None:
    """In place of the test of the same name, which looks for the embedded engine."""
    listed = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["tiny-adder", "tiny-classifier", "tiny-echo", "tiny-text"]
    (adder,) = [model for model in listed if model["id"] == "tiny-adder"]
    assert adder["statistics"]["requests"] > 0  # the probes of readiness are real inferences
    for model in listed:
        assert (model["state"], model["runtime"], model["providers"]) == (
            "READY",
            "triton",
            [shared_triton.server.grpc],
        )
