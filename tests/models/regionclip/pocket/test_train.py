"""Region-text pretraining and fine-tuning: the trunk stays, the region head learns, and what is saved is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.glip.pocket.drawings import Drawings
from models.glip.pocket.network import PocketConfig
from models.glip.pocket.rows import embed
from models.glip.pocket.train import begun
from models.regionclip.pocket.export import load
from models.regionclip.pocket.train import WEIGHTS, Recipe, Trainer, cuts, rois, train
from models.unicl.pocket.build import build
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


def _texts(texts: list[str]) -> np.ndarray:
    return np.random.default_rng(len(texts)).standard_normal((len(texts), 256)).astype(np.float32)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    root = tmp_path_factory.mktemp("pictographs")
    build(tiny_pictographs.sources(root / "sources"), root / "set")
    embed(root / "set", _texts)
    return Drawings(root / "set")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = begun(PocketConfig(fused=False), None)
    with torch.no_grad():  # sure of every place, so that there are proposals
        network.head.cls_logits.bias.fill_(3.0)
    path = tmp_path_factory.mktemp("glip") / "glip-pocket.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize("finetune", [False, True])
def test_only_the_region_head_learns(drawings: Drawings, start: Path, tmp_path: Path, finetune: bool) -> None:
    trainer = Trainer(drawings, Recipe(steps=2, batch=2, finetune=finetune), start, None, _texts)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    train(trainer, tmp_path, every=1)
    after = load(tmp_path / WEIGHTS).state_dict()
    moved = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"regions"}
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 2


def test_regions_are_vectors_of_what_lies_in_them(drawings: Drawings, start: Path) -> None:
    trainer = Trainer(drawings, Recipe(steps=1), start, None, None)
    features = torch.rand(2, 96, 20, 20)
    boxes = [np.array([[0.0, 0, 80, 80], [40, 40, 160, 160]]), np.array([[0.0, 0, 80, 80]])]
    with torch.no_grad():
        vectors = trainer.model.regions(features, rois(boxes))
        other = trainer.model.regions(features[1:], rois(boxes[1:]))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors[2:], other)
    assert not torch.allclose(vectors[0], vectors[2])


def test_the_teacher_sees_a_little_more_than_the_region() -> None:
    scene = np.zeros((160, 160, 3), np.uint8)
    scene[40:80, 40:80] = 255
    (cut,) = cuts([scene], [np.array([[40.0, 40, 80, 80]])])
    assert cut.shape == (3, 48, 48) and cut[:, 24, 24].min() == 1 and cut[:, 0, 0].max() == 0
