"""NVIDIA's client against the gateway, and the gateway over NVIDIA's server."""

from collections.abc import Iterator

import pytest

from tests.gateway.test_oip_client import *  # noqa: F403 - the same tests
from tests.support.server import Server, serving
from tests.support.triton_suite import Shared

del test_new_versions_under_traffic_over_two_processes_fail_no_request  # noqa: F821 - needs a repository of its own


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared_triton: Shared) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    with serving(shared_triton.settings(folder / "data"), folder) as running:
        yield running
