"""Which models give features that are kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.catalog.geometry import ImagePreprocess, Native
from services.errors import Problem
from services.finetuning.data.features import FeatureExtractor
from services.media.intake import Limits
from tests.support import tiny_models

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1 << 20, max_aspect=100, max_frames=1)


def extractor(folder: Path, image: Any) -> FeatureExtractor:
    card = tiny_models.card("any", tiny_models.classifier(size=None), image=image, roles={"embedding": "features"})
    return FeatureExtractor(SimpleNamespace(card=card), folder, LIMITS)  # type: ignore[arg-type]


def test_an_encoder_of_pictures_of_any_size_is_refused(tmp_path: Path) -> None:
    assert extractor(tmp_path, ImagePreprocess(size=32)).card.name == "any"
    with pytest.raises(Problem, match="no square image") as caught:
        extractor(tmp_path, Native())
    assert caught.value.code == "model-embeds-no-image"
