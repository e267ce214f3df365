"""Published files, converted and served: what /v1/detect answers is what PyTorch and the reference's rule give."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gateway.app import create_app
from models.backbones.modified_resnet import ModifiedResNetConfig
from models.backbones.roi_align import with_image_numbers
from models.catalog.card import Card
from models.catalog.releases import Picture, release
from models.convert import convert
from models.errors import ModelError
from models.regionclip import checkpoint
from models.regionclip.cards import MOST_PROPOSALS, part_names
from models.regionclip.convert import TEMPLATES
from models.regionclip.detections import ProposalRule, Rule, detections, proposals
from models.regionclip.export import MEAN, STD
from models.regionclip.localization import PIXEL_MEAN, ProposalConfig, anchor_boxes, clip, decode
from models.regionclip.network import RegionCLIP, RegionCLIPConfig
from models.regionclip.recognition import class_logits, region_features
from models.repository.hashing import verify_version
from models.text.clip_transformer import ClipTextConfig
from models.unicl.tokens import from_file
from services.settings import Settings
from tests.support.asgi import client
from tests.support.pictures import encoded, photo

NAME = "regionclip-rn50-lvis"
CONFIG = RegionCLIPConfig(
    ModifiedResNetConfig((1, 1, 1, 1), 8, 4, 24, 2), ClipTextConfig(width=8, heads=2, layers=1, eps=1e-5)
)
PROPOSALS = ProposalConfig(depths=(1, 1), width=2, pyramid=4, most=200)  # three levels: five take long to trace
SIDE = 64


@dataclass(frozen=True)
class Served:
    network: RegionCLIP
    repository: Path
    cards: list[Card]


def gain(name: str) -> float:
    """Logits and corrections of boxes of the size of trained ones."""
    if "rpn_head" in name or "bbox_pred" in name:
        return 0.1
    return 0.8 if name.startswith("offline_") else 1.5


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Everything of a fine-tuned file and, beside it, text tower and proposals of others, as models."""
    folder = tmp_path_factory.mktemp("regionclip")
    torch.manual_seed(0)
    network = RegionCLIP(RegionCLIPConfig(CONFIG.image, CONFIG.text, PROPOSALS, classes=5)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and "embedding" not in name:  # so large that all of it shows in the answer
                parameter.normal_(std=gain(name) * parameter[0].numel() ** -0.5)
    state = network.state_dict()

    def save(file: str, renamed: dict[str, str]) -> Path:
        torch.save({"model": {new: state[name] for name, new in renamed.items()}}, folder / file)
        return folder / file

    own = {name: name for name in state if name.startswith(("backbone.", "roi_heads."))}
    save("rpn_lvis_866_lsj.pth", {name: name.removeprefix("offline_") for name in state if name.startswith("offline_")})
    text = save("text.pth", {name: name for name in state if name.startswith("lang_encoder.")})
    entry = release(NAME).model_copy(update={"image": Picture(size=SIDE, resize=2 * SIDE)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoint.VARIANTS, "regionclip_rn50", CONFIG)
        patch.setitem(checkpoint.PROPOSALS, "R50-FPN", PROPOSALS)
        patch.setattr("models.regionclip.convert.VARIANTS", checkpoint.VARIANTS)
        patch.setattr("models.convert.release", lambda name: entry)
        file = save("regionclip_finetuned-lvis_rn50.pth", own)
        repository = folder / "models"
        yield Served(network, repository, convert(NAME, file, repository, beside=[text]))


@pytest.fixture
def settings(served: Served, tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(served.repository)
    return Settings(data_dir=tmp_path / "data", log_level="warning", port=0)


def picture() -> Image.Image:
    return photo(200, 130)


async def ask(settings: Settings, **body: Any) -> dict[str, Any]:
    image = base64.b64encode(encoded(picture(), "PNG")).decode()
    async with client(create_app(settings)) as http:
        answer: httpx.Response = await http.post("/v1/detect", json={"model": NAME, "image": image, **body})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return dict(result)


def tensor() -> Tensor:
    """The picture with its shorter side at 64, from 0 to 255."""
    image = picture()
    resized = image.resize((int(SIDE * image.width / image.height), SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized, np.float32)).permute(2, 0, 1)


def normalised(pixels: Tensor) -> Tensor:
    return ((pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]


def class_row(served: Served, label: str) -> Tensor:
    """The reference's: the mean of vectors as they are, in every template."""
    tokenise = from_file(served.repository / f"{NAME}-text" / "1" / "tokenizer.json", 77, 49_408)
    templates = [line for line in TEMPLATES.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert served.network.lang_encoder is not None
    return served.network.lang_encoder(tokenise([one.replace("{}", label) for one in templates])).mean(dim=0)


@torch.no_grad()
def expected(served: Served, classes: Tensor, labels: Sequence[str]) -> list[tuple[str, float, list[float]]]:
    """Label, score and box, best first: PyTorch for the network, the reference's rule for the rest."""
    network, pixels = served.network, tensor()
    assert network.offline_backbone is not None and network.offline_proposal_generator is not None
    blue_first = pixels.flip(0) - torch.tensor(PIXEL_MEAN)[:, None, None]
    anchors = anchor_boxes(network.offline_backbone, network.offline_proposal_generator, blue_first[None])
    boxes, objectness, levels = (part[0].numpy() for part in anchors)
    chosen = proposals(boxes, objectness, levels, ProposalRule(PROPOSALS.most, 0.9, MOST_PROPOSALS))
    rois = with_image_numbers(torch.from_numpy(boxes[chosen])[None])
    regions = region_features(network.backbone, normalised(pixels), rois)
    shares = class_logits(regions, classes).softmax(dim=1).numpy()
    assert network.roi_heads is not None
    moved = decode(rois[:, 1:], network.roi_heads.box_predictor.bbox_pred(regions), (10, 10, 5, 5))
    moved = clip(moved, *pixels.shape[1:])
    scale = torch.tensor([200 / pixels.shape[2], 130 / pixels.shape[1]] * 2)
    rule = Rule("squash", threshold=0.3, overlap=0.5, most=20)
    found = detections(shares, objectness[chosen], (moved * scale).numpy(), rule)
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return [(labels[number], score, box) for number, score, box in rows]


def assert_same(answer: dict[str, Any], wanted: list[tuple[str, float, list[float]]]) -> None:
    assert len(wanted) > 5
    got = answer["detections"]
    assert [one["label"] for one in got] == [label for label, _, _ in wanted]
    assert [one["score"] for one in got] == pytest.approx([score for _, score, _ in wanted], abs=1e-4)
    for one, (_, _, box) in zip(got, wanted, strict=True):
        assert one["box"] == pytest.approx(box, abs=0.02)


@pytest.mark.slow
async def test_labels_get_the_boxes_that_pytorch_and_the_rule_give(served: Served, settings: Settings) -> None:
    labels = ["clock", "_(window),"]  # written into a template as "window"
    with torch.no_grad():
        classes = torch.stack([class_row(served, name) for name in ("clock", "window")])
    wanted = expected(served, classes, labels)
    assert {label for label, _, _ in wanted} == set(labels)
    answer = await ask(settings, labels=labels, max_detections=20)
    assert_same(answer, wanted)
    assert [one["label"] for one in answer["presence"]] == labels


@pytest.mark.slow
async def test_an_example_box_is_a_class_row_like_any_other(served: Served, settings: Settings) -> None:
    box = [30.0, 20.0, 120.0, 90.0]
    pixels = tensor()
    scale = torch.tensor([pixels.shape[2] / 200, pixels.shape[1] / 130] * 2)
    with torch.no_grad():
        rois = with_image_numbers(torch.tensor([[box]]) * scale)
        shown = region_features(served.network.backbone, normalised(pixels), rois)[0]
        classes = torch.stack([class_row(served, "red car"), shown])
    answer = await ask(settings, labels=["red car"], examples=[{"label": "this", "box": box}], max_detections=20)
    assert_same(answer, expected(served, classes, ["red car", "this"]))


@pytest.mark.slow
def test_every_part_is_a_model_with_a_card_and_says_which_file_it_is_of(served: Served) -> None:
    assert [card.name for card in served.cards] == [*part_names(NAME), NAME]
    for card in served.cards:
        assert verify_version(served.repository / card.name / card.version) == card
    both = served.cards[-1]
    assert (both.task, both.pipeline is not None and both.pipeline.kind) == ("zero-shot-detect", "regionclip")
    files = {origin.member: origin.note.partition(";")[0] for origin in both.provenance}
    assert files == {
        "regionclip_finetuned-lvis_rn50.pth": "recognition",
        "rpn_lvis_866_lsj.pth": "localisation",
        "text.pth": "language",
    }
    assert both.measured[0].by == "publisher" and both.measured[0].value == 0.171
    for card in served.cards[:-1]:  # Triton's configuration: every tensor has a free first axis
        config = (served.repository / card.name / "config.pbtxt").read_text()
        assert f"max_batch_size: {card.batching.max_batch_size}" in config


def test_rounding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "any.pth"
    file.touch()
    with pytest.raises(ModelError, match="served in fp32, not in int8"):
        convert(NAME, file, tmp_path / "models", precision="int8")
