"""A GLIP from its published file to the answers of a server, against PyTorch and the reference's post-processing."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from gateway.app import create_app
from models.catalog.card import Card
from models.catalog.geometry import ShorterSide
from models.convert import convert
from models.export.onnx import ExportError, verify
from models.glip import cards, checkpoint
from models.glip.export import HEAD, HeadPart, head_inputs
from models.glip.fixtures_boxes import arrays
from models.glip.network import Glip
from models.glip.postprocess import Boxes, candidates, detections
from models.glip.prompts import positive_map, prompt_of
from models.text.bert_wordpiece import bert_tokenizer
from services.detection.glip_prompts import MOST_LABELS, asked_of_labels
from services.settings import Settings
from services.text.tokenizer import Tokenizer
from tests.support.asgi import client
from tests.support.pictures import photo
from tests.support.tiny_glip import CONFIG, tiny_glip

SIDE = 64
PICTURES = [photo(96, 64, seed=1), photo(64, 96, seed=2)]
MEAN, STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


@pytest.fixture(scope="module")
def network() -> Glip:
    return tiny_glip()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, network: Glip) -> Path:
    """A data folder with the converted models."""
    folder = tmp_path_factory.mktemp("glip")
    torch.save({"model": network.state_dict()}, folder / "glip.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "VARIANTS", {"glip_t": CONFIG})
        patch.setattr(cards, "_geometry", lambda job: ShorterSide(size=SIDE, max_size=96, multiple=32, channels="bgr"))
        made = convert("glip-t", folder / "glip.pth", folder / "models")
    assert [card.name for card in made] == ["glip-t-text", "glip-t-image", "glip-t-head", "glip-t"]
    return folder


@pytest.fixture
async def http(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client(create_app(Settings(data_dir=data, log_level="warning", port=0))) as http:
        yield http


def sent(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def reference(network: Glip, picture: Image.Image, text: str, spans: Sequence[tuple[int, int]]) -> Boxes:
    """PyTorch on pixels, ids and token map; boxes as the reference gives them."""
    pixels = (np.asarray(picture, np.float32) / 255 - MEAN) / STD
    image = torch.from_numpy(pixels[..., ::-1].transpose(2, 0, 1).copy())[None]
    encoding = bert_tokenizer().encode(text)
    tokens = positive_map([[span] for span in spans], encoding.char_to_token)
    ids = torch.tensor([encoding.ids])
    with torch.no_grad():
        output = network(image, ids, torch.ones_like(ids))
    return detections(candidates(arrays(output, 0), tokens, (picture.height, picture.width)))


def same(found: Sequence[dict[str, Any]], wanted: Boxes, columns: Sequence[str]) -> None:
    """As sets of box, score and label."""
    assert len(found) == len(wanted.scores) > 5

    def key(row: tuple[str, float, list[float]]) -> tuple[str, float, float]:
        return row[0], round(row[1], 3), round(sum(row[2]))

    ours = sorted([(one["label"], one["score"], one["box"]) for one in found], key=key)
    boxes, scores = wanted.boxes.tolist(), wanted.scores.tolist()
    names = [columns[label] for label in wanted.labels]
    theirs = sorted(zip(names, scores, boxes, strict=True), key=key)
    assert [one[0] for one in ours] == [one[0] for one in theirs]
    assert [one[1] for one in ours] == pytest.approx([one[1] for one in theirs], abs=2e-4)
    assert np.array([one[2] for one in ours]) == pytest.approx(np.array([one[2] for one in theirs]), abs=0.05)


async def test_labels_get_the_boxes_of_the_reference(http: httpx.AsyncClient, network: Glip) -> None:
    labels = ["a cat", "traffic light", "Jellyfish"]
    body = {"model": "glip-t", "images": [sent(one) for one in PICTURES], "labels": labels, "threshold": 0.01}
    answer = await http.post("/v1/detect", json=body)
    assert answer.status_code == 200, answer.text
    prompt = prompt_of(labels)
    for picture, result in zip(PICTURES, answer.json()["results"], strict=True):
        same(result["detections"], reference(network, picture, prompt.text, prompt.spans), labels)

    many = [f"thing number {number}" for number in range(MOST_LABELS + 5)]
    answer = await http.post("/v1/detect", json={**body, "images": body["images"][:1], "labels": many})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["chunks"] > 1
    assert len(answer.json()["results"][0]["presence"]) == len(many)


async def test_a_caption_is_read_whole_and_its_phrases_have_the_boxes_of_the_reference(
    http: httpx.AsyncClient, network: Glip
) -> None:
    caption = "Two people ride horses near people"
    body = {"model": "glip-t", "image": sent(PICTURES[0]), "caption": caption, "threshold": 0.01}
    answer = await http.post("/v1/ground", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["results"][0]["phrases"]
    spans = [tuple(phrase["span"]) for phrase in found]
    assert [caption[begin:end] for begin, end in spans] == [phrase["text"] for phrase in found]
    columns = [str(number) for number in range(len(spans))]
    rows = [{**box, "label": columns[at]} for at, phrase in enumerate(found) for box in phrase["boxes"]]
    same(rows, reference(network, PICTURES[0], caption, spans), columns)

    answer = await http.post("/v1/ground", json={**body, "caption": "a cat and a dog, " * 60})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "caption-too-long")


def test_graphs_hold_at_other_sizes_and_another_network_is_noticed(data: Path, network: Glip) -> None:
    inputs = [head_inputs(network, 2, (64, 224), 3)]
    file = data / "models" / "glip-t-head" / "1" / "model.onnx"
    errors = verify(HeadPart(network), inputs, HEAD, file, tolerance=1e-3)
    assert set(errors) == {"logits", "deltas", "centerness"}

    other = tiny_glip(seed=1)
    other.load_state_dict(network.state_dict())
    other.head.get_parameter("dyhead_tower.2.DyConv.0.bn.weight").data.mul_(1.5)
    with pytest.raises(ExportError, match="off by"):
        verify(HeadPart(other), inputs, HEAD, file, tolerance=1e-3)


def test_every_label_has_its_tokens_in_exactly_one_run(data: Path) -> None:
    folder = data / "models" / "glip-t-text" / "1"
    spec = Card.read(folder).text
    assert spec is not None
    tokenizer = Tokenizer(folder, spec)
    labels = [f"thing {number} of many" for number in range(200)]
    runs = asked_of_labels(tokenizer, labels)
    assert [run.first for run in runs] == [*np.cumsum([0] + [len(run.tokens) for run in runs[:-1]])]
    assert sum(len(run.tokens) for run in runs) == 200
    assert all(len(run.ids) <= 256 and all(run.tokens) for run in runs)
    for run in runs:
        encoding = bert_tokenizer().encode(run.text)
        for offset, tokens in enumerate(run.tokens):
            assert bert_tokenizer().decode([encoding.ids[token] for token in tokens]) == labels[run.first + offset]
