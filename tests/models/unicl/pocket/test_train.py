"""Training: a killed run goes on to the same bits, augmentation is what its generator says, the loss is UniCL's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.repository.hashing import sha256
from models.unicl.loss import unicl_loss as published_loss
from models.unicl.pocket.augment import Augment, flattened
from models.unicl.pocket.build import build
from models.unicl.pocket.dataset import Pictographs
from models.unicl.pocket.network import load, whitening
from models.unicl.pocket.report import ship
from models.unicl.pocket.train import WEIGHTS, Recipe, Trainer, train, unicl_loss
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Pictographs:
    root = tmp_path_factory.mktemp("pictographs")
    build(tiny_pictographs.sources(root / "sources"), root / "set")
    tiny_pictographs.texts(root / "set")
    return Pictographs(root / "set")


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(steps=4, sizes=((0.0, 32), (0.5, 48)), concepts=4, captions=2, bank=5, warmup=2)


def test_killed_run_continues_to_the_same_bits(data: Pictographs, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    train(data, recipe, tmp_path / "whole", every=2)
    (tmp_path / "killed").mkdir()
    trainer = Trainer(data, recipe)
    for _ in range(2):
        trainer.one_step()
    trainer.save(tmp_path / "killed")
    train(data, recipe, tmp_path / "killed", every=2)
    whole, killed = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    log = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert [(line["step"], line["size"]) for line in log] == [(2, 32), (4, 48)]
    (tmp_path / "docs").mkdir()
    said = ship(tmp_path / "whole", tmp_path / "docs", tmp_path / "shipped" / WEIGHTS)
    assert sha256(tmp_path / "shipped" / WEIGHTS) in said and (tmp_path / "docs" / "recipe.json").exists()
    drawings = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        exact, half = (load(tmp_path / name / WEIGHTS).embed_images(drawings) for name in ("whole", "shipped"))
    torch.testing.assert_close(exact, half, atol=5e-3, rtol=0)
    assert load(tmp_path / "whole" / WEIGHTS).embed_images(torch.rand(2, 3, 48, 48)).shape == (2, 256)


def test_unseen_concepts_are_never_drawn(data: Pictographs, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = {index for index, concept in enumerate(data.concepts) if concept["unseen"]}
    rows = {row for (concept, _), row in data.row.items() if concept in unseen}
    trainer = Trainer(data, recipe)
    used: list[torch.Tensor] = []
    augment = trainer.augment

    def spy(drawings: torch.Tensor, *rest: object) -> torch.Tensor:
        used.append(drawings)
        return augment(drawings, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "augment", spy)
    for _ in range(4):
        trainer.one_step()
    hidden = {data.images[row].numpy().tobytes() for row in rows}
    assert hidden and not hidden & {drawing.numpy().tobytes() for batch in used for drawing in batch}


def test_plain_clip_makes_every_pair_a_class(data: Pictographs, recipe: Recipe) -> None:
    trainer = Trainer(data, recipe)
    arguments = (np.random.default_rng(0), 32, 0.5)
    both = []
    for unicl in (True, False):
        trainer.recipe = Recipe(steps=4, concepts=4, captions=2, bank=0, unicl=unicl, subcategory=0.0)
        torch.manual_seed(0)
        trainer.generator.manual_seed(0)
        trainer.model.eval()
        both.append(trainer.loss(np.random.default_rng(0), *arguments[1:]).item())
    assert both[0] != pytest.approx(both[1], abs=1e-3)


def test_loss_without_a_bank_is_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1) for _ in range(2))
    labels, scale = torch.tensor([1, 1, 2, 3, 3, 3]), torch.tensor(12.0)
    ours = unicl_loss(image, text, labels, labels, scale)
    torch.testing.assert_close(ours, published_loss(image, text, scale, labels))


def test_texts_of_a_bank_only_push_away() -> None:
    image = torch.eye(3)
    alone = unicl_loss(image, image, torch.arange(3), torch.arange(3), torch.tensor(5.0))
    pushed = unicl_loss(
        image, torch.cat([image, image[:1]]), torch.arange(3), torch.tensor([0, 1, 2, 7]), torch.tensor(5.0)
    )
    assert pushed > alone


def test_augmentation_is_the_generators_alone(data: Pictographs) -> None:
    mirror = torch.ones(8, dtype=torch.bool)
    drawings = data.images[:8]
    made = [Augment(data.photos, torch.Generator().manual_seed(seed))(drawings, 32, 1.0, mirror) for seed in (1, 1, 2)]
    assert made[0].shape == (8, 3, 32, 32) and made[0].min() >= 0 and made[0].max() <= 1
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_weak_augmentation_leaves_the_drawing_where_it_is(data: Pictographs) -> None:
    made = Augment(data.photos, torch.Generator().manual_seed(0))(data.images[:4], 64, 0.0, torch.zeros(4).bool())
    plain = flattened(data.images[:4], 64, None)
    opaque = data.images[:4, ..., 3].unsqueeze(1).expand_as(plain) == 255
    torch.testing.assert_close(made[opaque], plain[opaque], atol=0.02, rtol=0)


def test_drawings_on_white_and_on_a_photo(data: Pictographs) -> None:
    white = flattened(data.images[:2], 32, None)
    black = flattened(data.images[:2], 32, torch.zeros(2, 3, 32, 32))
    clear = (
        torch.nn.functional.interpolate(data.images[:2, ..., 3].unsqueeze(1).float(), size=(32, 32), mode="area") == 0
    )
    assert white[clear.expand_as(white)].eq(1).all() and black[clear.expand_as(black)].eq(0).all()


def test_whitening_makes_directions_equal() -> None:
    rows = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3, 1, 1, 1, 0.1])
    mean, whiten = whitening(rows, shrink=0.0)
    torch.testing.assert_close(torch.cov(((rows - mean) @ whiten).T), torch.eye(6), atol=1e-3, rtol=0)
