"""The API's own tests once more, with the models in a real tritonserver: same requests, same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.settings import Settings
from tests.support.triton_suite import Shared


@pytest.fixture
def settings(tmp_path: Path, shared_triton: Shared) -> Iterator[Settings]:
    yield shared_triton.settings(tmp_path / "data")
    shared_triton.restore()


@pytest.fixture
def repository(settings: Settings) -> Path:
    return settings.models_dir
