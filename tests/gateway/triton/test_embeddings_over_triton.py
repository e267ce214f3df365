"""``/v1/embeddings`` over Triton."""

from collections.abc import Iterator

import pytest

from tests.gateway.tasks.test_embeddings import *  # noqa: F403 - the same tests
from tests.support.server import Server, serving
from tests.support.triton_suite import Shared


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared_triton: Shared) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openai")
    with serving(shared_triton.settings(folder / "data", default_text_encoder="tiny-text"), folder) as server:
        yield server
