"""Proposals: anchors and coding as detectron2 has them, and the best of every level, read anchor by anchor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.regionclip.detections import ProposalRule, proposals
from models.regionclip.localization import (
    PIXEL_MEAN,
    SIDES,
    ProposalConfig,
    ProposalGenerator,
    anchor_boxes,
    anchors,
    build_backbone,
    decode,
)

SMALL = ProposalConfig(depths=(1, 1, 1, 1), width=2, pyramid=4, most=7)
C4 = ProposalConfig(fpn=False, depths=(1, 1, 1, 1), width=2, most=20)
SYNCED = ProposalConfig(synced=True, depths=(1, 1, 1, 1), width=2, pyramid=4, most=7)


def branch(config: ProposalConfig) -> tuple[torch.nn.Module, ProposalGenerator]:
    torch.manual_seed(0)
    return build_backbone(config).eval(), ProposalGenerator(config).eval()


def test_anchors_are_those_of_detectron2() -> None:
    grid = anchors(2, 3, 16, (32,), torch.zeros(1))
    assert grid.shape == (2 * 3 * 3, 4)
    # cell_anchors of DefaultAnchorGenerator for size 32 and ratios .5, 1, 2
    wanted = [[-22.6274, -11.3137, 22.6274, 11.3137], [-16, -16, 16, 16], [-11.3137, -22.6274, 11.3137, 22.6274]]
    torch.testing.assert_close(grid[:3], torch.tensor(wanted), atol=1e-4, rtol=0)
    torch.testing.assert_close(grid[3:6] - grid[:3], torch.tensor([16.0, 0, 16, 0]).expand(3, 4))
    torch.testing.assert_close(grid[9:12] - grid[:3], torch.tensor([0.0, 16, 0, 16]).expand(3, 4))
    assert len(anchors(1, 1, 16, SIDES, torch.zeros(1))) == 15


def test_a_box_is_moved_by_shares_of_its_size_and_grows_by_at_most_62_times() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 60]]).expand(3, 4)
    deltas = torch.tensor([[0, 0, 0, 0], [0.5, -0.25, 0, 0.6931472], [0, 0, 100, 0]])
    found = decode(boxes, deltas)
    assert found[0].tolist() == [10, 20, 30, 60]
    torch.testing.assert_close(found[1], torch.tensor([20.0, -10, 40, 70]))
    assert float(found[2, 2] - found[2, 0]) == pytest.approx(20 * 62.5)
    torch.testing.assert_close(decode(boxes[:1], 10 * deltas[1:2], (10, 10, 5, 5))[:, :2], torch.tensor([[20.0, -50]]))


def read_anchor_by_anchor(backbone: torch.nn.Module, generator: ProposalGenerator, image: Tensor) -> list[Tensor]:
    """Boxes of each level, best first, from the head's maps by loops."""
    height, width = image.shape[1:]
    multiple = generator.config.multiple
    padded = torch.zeros(1, 3, -(-height // multiple) * multiple, -(-width // multiple) * multiple)
    padded[0, :, :height, :width] = image
    levels = []
    for x, (stride, sides) in zip(backbone(padded), generator.config.levels, strict=True):
        head = generator.rpn_head
        hidden = x
        for layer in head.conv if isinstance(head.conv, torch.nn.Sequential) else [head.conv]:
            hidden = layer(hidden).relu()
        logits, deltas = head.objectness_logits(hidden)[0], head.anchor_deltas(hidden)[0]
        found = []
        shapes = [(side, ratio) for side in sides for ratio in (0.5, 1.0, 2.0)]
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                for number, (side, ratio) in enumerate(shapes):
                    w, h = side / ratio**0.5, side * ratio**0.5
                    dx, dy, dw, dh = deltas[4 * number : 4 * number + 4, row, column]
                    cx, cy = column * stride + dx * w, row * stride + dy * h
                    w, h = w * dw.exp(), h * dh.exp()
                    box = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
                    found.append((float(logits[number, row, column]), box))
        best = sorted(found, key=lambda one: -one[0])[: generator.config.most]
        levels.append(torch.stack([box for _, box in best]).clamp(torch.zeros(4), torch.tensor([width, height] * 2)))
    return levels


@pytest.mark.parametrize("config", [SMALL, C4, SYNCED], ids=["fpn", "c4", "synced"])
def test_the_best_anchors_of_every_level_are_the_proposals(config: ProposalConfig) -> None:
    backbone, generator = branch(config)
    images = torch.randn(2, 3, 70, 100, generator=torch.Generator().manual_seed(1)) * 50
    rule = ProposalRule(per_level=config.most, overlap=1.0)
    with torch.no_grad():
        found = [part.numpy() for part in anchor_boxes(backbone, generator, images)]
        for image, boxes, logits, levels in zip(images, *found, strict=True):
            chosen = proposals(boxes, logits, levels, rule)
            assert logits[chosen].tolist() == sorted(logits[chosen].tolist(), reverse=True)
            for level, wanted in enumerate(read_anchor_by_anchor(backbone, generator, image)):
                solid = (wanted[:, 2:] > wanted[:, :2]).all(dim=1)
                own = torch.from_numpy(boxes[chosen[levels[chosen] == level]])
                torch.testing.assert_close(own, wanted[solid], atol=1e-3, rtol=1e-4)


def test_proposals_of_one_level_suppress_each_other_alone() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9.5], [0, 0, 10, 9.5], [5, 5, 5, 9], [0, 0, 2, 2]], np.float32)
    objectness = np.array([3, 2, 1, 9, 0], np.float32)
    levels = np.array([0, 0, 1, 0, 0])
    assert proposals(boxes, objectness, levels, ProposalRule()).tolist() == [0, 2, 4]
    assert proposals(boxes, objectness, levels, ProposalRule(most=2)).tolist() == [0, 2]
    assert proposals(boxes, objectness, levels, ProposalRule(per_level=2)).tolist() == [0, 2]


def test_names_are_those_of_detectron2() -> None:
    backbone, generator = branch(SMALL)
    names = {*backbone.state_dict(), *generator.state_dict()}
    assert {
        "bottom_up.stem.conv1.weight",
        "bottom_up.stem.conv1.norm.running_var",
        "bottom_up.res2.0.shortcut.weight",
        "bottom_up.res5.0.conv3.norm.bias",
        "fpn_lateral2.weight",
        "fpn_output5.bias",
        "rpn_head.conv.weight",
        "rpn_head.objectness_logits.bias",
        "rpn_head.anchor_deltas.weight",
    } <= names
    synced, head = (part.state_dict() for part in branch(SYNCED))
    assert "fpn_lateral2.norm.weight" in synced and "fpn_lateral2.bias" not in synced
    assert {"rpn_head.conv.conv0.weight", "rpn_head.conv.conv1.bias"} <= head.keys()
    assert "res4.0.shortcut.norm.weight" in branch(C4)[0].state_dict()
    assert PIXEL_MEAN == (103.53, 116.28, 123.675)
