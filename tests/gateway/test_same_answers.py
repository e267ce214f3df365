"""The real default models give the same answers in a tritonserver as embedded."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.app import create_app
from services.settings import Settings
from tests.support.asgi import client
from tests.support.pictures import encoded, photo
from tests.support.triton_server import triton

pytestmark = [pytest.mark.weights, pytest.mark.slow]

MOST = 1e-5
"""How far any score or component of an embedding may differ."""


async def answers(settings: Settings) -> list[np.ndarray]:
    """What the API says of pictures and texts, number for number in the order of labels."""
    found: list[np.ndarray] = []
    async with client(create_app(settings), timeout=60) as http:
        for seed in (1, 2):
            picture = base64.b64encode(encoded(photo(320, 240, seed), "JPEG")).decode()
            for model, labels in (
                ("efficientnet-lite2", {}),
                ("photo-zero-shot", {"labels": ["a cat", "fog", "a car"]}),
            ):
                answer = await http.post("/v1/classify", json={"model": model, "image": picture, "top_k": 50, **labels})
                found.append(scores(answer))
        body = {"model": "minilm-l6", "input": ["a photo of a red apple", "un chat", "x" * 400]}
        told = await http.post("/v1/embeddings", json=body)
        found.append(np.array([one["embedding"] for one in told.json()["data"]]))
    return found


def scores(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    ranked = sorted(result["predictions"], key=lambda one: one["label"])
    return np.array([one["score"] for one in ranked])


async def test_default_models_answer_through_triton_as_they_do_embedded(
    settings: Settings, default_models: Path
) -> None:
    settings.data_dir.mkdir()
    settings.models_dir.symlink_to(default_models)
    embedded = await answers(settings)
    with triton(default_models) as server:
        elsewhere = settings.model_copy(update={"runtime": "triton", "triton_urls": (server.grpc,)})
        remote = await answers(elsewhere)
    for here, there in zip(embedded, remote, strict=True):
        assert here.shape == there.shape and here.size
        np.testing.assert_allclose(there, here, rtol=0, atol=MOST)
