"""``/v1/classify`` gives an imported model's own scores, whichever of logits, softmax and sigmoid it ends in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, parser

from gateway.app import create_app
from models.intake.importing import import_onnx
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.settings import Settings
from tests.support.asgi import client
from tests.support.pictures import encoded, photo

LABELS = ("cat", "dog", "fish", "car")
WEIGHTS = (
    "float[3,4] w = {9.0, -6.0, 0.5, 2.25, -8.75, 2.0, 1.5, -2.0, 0.5, 5.5, -1.5, 1.0}, "
    "float[4] bias = {0.1, -0.2, 0.3, 0.4}"
)
KINDS = ("logits", "softmax", "sigmoid")


def model(kind: str) -> ModelProto:
    last = {"logits": "Identity", "softmax": "Softmax", "sigmoid": "Sigmoid"}[kind]
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,16,16] image) => (float[N,4] y) <{WEIGHTS}> '
        f"{{ p = GlobalAveragePool(image) r = Flatten(p) m = MatMul(r, w) l = Add(m, bias) y = {last}(l) }}"
    )


@pytest.fixture
async def http(settings: Settings, own: dict[str, np.ndarray]) -> AsyncIterator[httpx.AsyncClient]:
    async with client(create_app(settings)) as opened:
        yield opened


@pytest.fixture
def own(settings: Settings, repository: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """What each model itself says of the picture that is sent, by its kind; all three are imported."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    said = {}
    for kind in KINDS:
        file = tmp_path / f"{kind}.onnx"
        file.write_bytes(model(kind).SerializeToString())
        card = import_onnx(
            file, f"own-{kind}", "classify", settings.models_dir, labels=tmp_path / "labels.txt", preprocess="unit-16"
        )
        assert card.output_kind == kind and card.image is not None
        picture = photo(60, 40, 3)
        pixels = Preprocessor(card.image).batch([Picture(picture, *picture.size, "PNG")])
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        said[kind] = session.run(None, {"image": pixels})[0][0]
    return said


async def ask(http: httpx.AsyncClient, kind: str, **parameters: str) -> np.ndarray:
    """The scores in the order of the labels, 0 for a label that is not answered."""
    await http.post(f"/v1/models/own-{kind}/load")  # where a server of its own runs them
    answer = await http.post(
        "/v1/classify",
        params={"model": f"own-{kind}", **parameters},
        content=encoded(photo(60, 40, 3), "PNG"),
        headers={"content-type": "image/png"},
    )
    assert answer.status_code == 200, answer.text
    found = {one["label"]: one["score"] for one in answer.json()["results"][0]["predictions"]}
    return np.array([found.get(label, 0.0) for label in LABELS])


async def test_scores_are_the_models_own(http: httpx.AsyncClient, own: dict[str, np.ndarray]) -> None:
    for kind in ("softmax", "sigmoid"):
        for multi in ("true", "false"):
            np.testing.assert_allclose(await ask(http, kind, multi_label=multi), own[kind], atol=1e-5)
    # What a network says does not depend on whether its last operator was exported with it.
    np.testing.assert_allclose(await ask(http, "logits", multi_label="true"), own["sigmoid"], atol=1e-5)
    np.testing.assert_allclose(await ask(http, "logits"), own["softmax"], atol=1e-5)


async def test_chosen_labels_share_what_a_softmax_gives_unless_each_stands_alone(
    http: httpx.AsyncClient, own: dict[str, np.ndarray]
) -> None:
    some = {"labels": "dog,car"}
    shares = own["softmax"] * np.array([0, 1, 0, 1])
    np.testing.assert_allclose(await ask(http, "softmax", **some), shares / shares.sum(), atol=1e-5)
    np.testing.assert_allclose(await ask(http, "softmax", multi_label="true", **some), shares, atol=1e-5)
    alone = own["sigmoid"] * np.array([0, 1, 0, 1])
    np.testing.assert_allclose(await ask(http, "sigmoid", **some), alone, atol=1e-5)
