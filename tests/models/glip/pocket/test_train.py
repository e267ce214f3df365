"""Training: a killed run goes on to the same bits, and what a run without deep fusion left is taken over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.glip.pocket.drawings import Drawings
from models.glip.pocket.export import load, pack
from models.glip.pocket.loss import Targets, losses
from models.glip.pocket.network import Outputs, PocketConfig
from models.glip.pocket.rows import embed
from models.glip.pocket.train import WEIGHTS, Recipe, Trainer, begun, train
from models.unicl.pocket.build import build
from tests.support import tiny_pictographs

pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    root = tmp_path_factory.mktemp("pictographs")
    build(tiny_pictographs.sources(root / "sources"), root / "set")
    rng = np.random.default_rng(0)
    embed(root / "set", lambda texts: rng.standard_normal((len(texts), 256)).astype(np.float32))
    return Drawings(root / "set")


def test_killed_run_continues_to_the_same_bits(drawings: Drawings, tmp_path: Path) -> None:
    recipe = Recipe(steps=2, batch=2, warmup=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    train(drawings, recipe, whole, every=1)
    trainer = Trainer(drawings, recipe)
    trainer.one_step()
    trainer.save(killed)
    train(drawings, recipe, killed, every=1)
    one, other = load_file(whole / WEIGHTS), load_file(killed / WEIGHTS)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len((whole / "train.jsonl").read_text().splitlines()) == 2
    pack(whole / WEIGHTS, tmp_path / "shipped")
    assert (tmp_path / "shipped").stat().st_size < 10_000_000 and load(tmp_path / "shipped").config.fused


def test_blocks_of_a_run_without_fusion_keep_their_place(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    plain = begun(PocketConfig(fused=False), None)
    with torch.no_grad():
        plain.head.dyhead_tower[1].offset.weight.fill_(0.25)
    save_file(plain.state_dict(), tmp_path / "plain")
    fused = begun(replace(plain.config, fused=True), tmp_path / "plain")
    assert (fused.head.dyhead_tower[5].offset.weight == 0.25).all()
    torch.testing.assert_close(fused.fpn.p5.weight, plain.fpn.p5.weight)


def test_losses_vanish_where_everything_is_right() -> None:
    anchors = torch.tensor([[0.0, 0.0, 31.0, 31.0], [64.0, 64.0, 95.0, 95.0]])
    right = Outputs(
        tokens=torch.tensor([[[20.0, -20.0], [-20.0, -20.0]]]),
        deltas=torch.zeros(1, 2, 4),
        centerness=torch.tensor([[20.0, 0.0]]),
        objectness=torch.tensor([[20.0, -20.0]]),
        places=torch.zeros(1, 2, 3),
    )
    rows = torch.nn.functional.normalize(torch.rand(1, 2, 256), dim=-1)
    targets = Targets(
        boxes=anchors[None],
        taken=torch.tensor([[True, False]]),
        tokens=torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]),
        mask=torch.ones(1, 2, dtype=torch.int64),
        teacher=rows,
    )
    assert all(value.item() < 1e-3 for value in losses(right, rows[0, :1], targets, anchors))
    wrong = right._replace(objectness=-right.objectness, tokens=-right.tokens, deltas=right.deltas + 4)
    told = losses(wrong, -rows[0, :1], targets, anchors)
    assert told.alignment > 1 and told.objectness > 1 and told.giou > 0.5 and told.distil > 1
