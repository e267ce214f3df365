"""What every test may ask for: settings of its own, a repository of tiny models, the real default models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.settings import Settings
from tests.support import tiny_models
from tests.support.triton_suite import Shared, shared

DEFAULT_MODELS = Path(__file__).resolve().parent.parent / ".sightline" / "models"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last comes what kills processes among hundreds of jobs: it takes minutes, and needs all else to work."""
    items.sort(key=lambda item: "faults" in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _no_ambient_settings() -> Iterator[None]:
    """Tests depend on what they set themselves, never on ``SIGHTLINE_*`` of the shell that runs them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("SIGHTLINE_")]:
            patch.delenv(name)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings over an empty data folder of this test alone."""
    return Settings(data_dir=tmp_path / "data", log_level="warning", port=0)


@pytest.fixture
def repository(settings: Settings) -> Path:
    """``settings.models_dir`` filled with the tiny models; returns the folder."""
    return tiny_models.add_all(settings.models_dir)


@pytest.fixture(scope="session")
def default_models() -> Path:
    """The repository of the pulled default models (real weights). Mark such tests ``weights``."""
    if not DEFAULT_MODELS.is_dir() or not any(DEFAULT_MODELS.glob("*/*/card.json")):
        pytest.fail(f"the default models are not in {DEFAULT_MODELS}: run `make setup` once", pytrace=False)
    return DEFAULT_MODELS


@pytest.fixture(scope="session")
def shared_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """One real tritonserver with the tiny models, for the whole session."""
    with shared(tmp_path_factory.mktemp("shared-triton")) as running:
        yield running
