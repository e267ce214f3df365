"""GLIP's training: assignment and losses against what can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.glip import boxes as numpy_boxes
from models.glip.anchors import anchors
from models.glip.assignment import BACKGROUND, assign, overlaps
from models.glip.head import HeadConfig, HeadOutput, VLDyHead
from models.glip.losses import ALPHA, Targets, alignment_loss, centerness_of, decode, generalized_iou, losses

SHAPES = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
LEVELS = [torch.from_numpy(level) for level in anchors(SHAPES)]
ANCHORS = torch.cat(LEVELS)


def test_overlaps_count_the_pixel_of_the_edge() -> None:
    ten = torch.tensor([[0.0, 0, 9, 9]])
    others = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9], [10, 0, 19, 9], [9, 9, 18, 18]])
    assert overlaps(ten, others)[0].tolist() == pytest.approx([1, 50 / 150, 0, 1 / 199])


def test_an_anchor_that_is_the_box_answers_for_it() -> None:
    box = LEVELS[1][27:28]  # 128 px, in the middle of the picture
    assigned = assign(LEVELS, box)
    assert assigned[256 + 27] == 0
    assert (assigned != BACKGROUND).sum() <= 9


def test_chosen_anchors_overlap_by_more_than_mean_and_deviation_and_lie_inside() -> None:
    box = torch.tensor([[20.0, 30, 85, 99]])
    assigned = assign(LEVELS, box)

    centre = (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2
    distance = (centre - (box[:, :2] + box[:, 2:]) / 2).norm(dim=1)
    nearest, start = [], 0
    for level in LEVELS:
        order = distance[start : start + len(level)].argsort()[:9] + start
        nearest += order.tolist()
        start += len(level)
    shares = overlaps(ANCHORS, box)[nearest, 0]
    threshold = float(shares.mean() + shares.std())
    wanted = {
        place
        for place, share in zip(nearest, shares.tolist(), strict=True)
        if share >= threshold and 20.01 < centre[place, 0] < 84.99 and 30.01 < centre[place, 1] < 98.99
    }
    assert wanted == set(assigned.ne(BACKGROUND).nonzero().flatten().tolist())
    assert wanted


def test_an_anchor_of_two_boxes_goes_to_the_one_that_it_overlaps_more() -> None:
    exact = LEVELS[0][100:101]
    shifted = exact + 3
    for boxes, right in ((torch.cat([exact, shifted]), 0), (torch.cat([shifted, exact]), 1)):
        assert assign(LEVELS, boxes)[100] == right


def test_a_picture_without_boxes_is_background() -> None:
    assert (assign(LEVELS, torch.zeros(0, 4)) == BACKGROUND).all()


def test_generalized_iou_is_that_of_the_paper() -> None:
    one = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    others = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    assert generalized_iou(one, others).tolist() == pytest.approx([1, 1 / 3, -1 / 3], abs=1e-6)


def test_centerness_is_that_of_the_paper() -> None:
    anchor = torch.tensor([[3.0, 4, 7, 6]])  # its middle is (5, 5)
    box = torch.tensor([[0.0, 0, 20, 10]])
    assert centerness_of(anchor, box).item() == pytest.approx(math.sqrt(5 / 15))


def test_alignment_loss_is_the_focal_loss_without_padding() -> None:
    logits, wanted = torch.tensor([[[2.0, -1.0, 9.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    p, q = (1 / (1 + math.exp(-x)) for x in (2.0, -1.0))
    by_hand = -ALPHA * (1 - p) ** 2 * math.log(p) - (1 - ALPHA) * q**2 * math.log(1 - q)
    assert alignment_loss(logits, wanted, torch.tensor([[1, 1, 0]])).item() == pytest.approx(by_hand)


def test_boxes_are_decoded_as_where_they_are_served() -> None:
    deltas = torch.randn(40, 4, generator=torch.Generator().manual_seed(3)) * 8
    served = numpy_boxes.decode(deltas.numpy(), ANCHORS[:40].numpy())
    assert np.abs(decode(deltas, ANCHORS[:40]).numpy() - served).max() < 2e-3
    again = numpy_boxes.encode(served, ANCHORS[:40].numpy())
    limit = np.array([np.inf, np.inf, *[5 * math.log(1000 / 16)] * 2], np.float32)
    assert np.abs(again - np.minimum(deltas.numpy(), limit)).max() < 1e-3


def output(logits: torch.Tensor, deltas: torch.Tensor, centerness: torch.Tensor) -> HeadOutput:
    """Of all anchors at once, cut into levels."""
    split, start = [], 0
    for height, width in SHAPES:
        split.append((slice(start, start + height * width), height, width))
        start += height * width
    return HeadOutput(
        logits=tuple(logits[:, part] for part, _, _ in split),
        deltas=tuple(deltas[:, part].transpose(1, 2).reshape(-1, 4, h, w) for part, h, w in split),
        centerness=tuple(centerness[:, part].reshape(-1, 1, h, w) for part, h, w in split),
        levels=(),
        tokens=torch.zeros(0),
    )


def test_right_answers_cost_nothing_and_wrong_ones_do() -> None:
    box = torch.tensor([[20.0, 30, 85, 99]])
    target = Targets(box, torch.tensor([[0, 0.5, 0.5, 0]]))
    assigned = assign(LEVELS, box) != BACKGROUND
    logits = torch.full((1, len(ANCHORS), 4), -20.0)
    logits[0, assigned, 1:3] = 20.0
    deltas = torch.from_numpy(numpy_boxes.encode(box.expand(len(ANCHORS), 4).numpy(), ANCHORS.numpy()))[None]
    central = torch.logit(centerness_of(ANCHORS[assigned], box.expand(int(assigned.sum()), 4)))
    centerness = torch.zeros(1, len(ANCHORS))
    centerness[0, assigned] = central

    mask = torch.ones(1, 4, dtype=torch.int64)
    right = losses(output(logits, deltas, centerness), mask, LEVELS, [target])
    assert right.positives == int(assigned.sum()) > 0
    assert right.alignment.item() < 1e-6 and right.boxes.item() < 1e-5
    shares = central.sigmoid()
    entropy = -(shares * shares.log() + (1 - shares) * (1 - shares).log()).mean()
    assert right.centerness.item() == pytest.approx(entropy.item(), rel=1e-4)  # the least that it can be

    logits[0, assigned, 2] = -20.0
    assert losses(output(logits, deltas, centerness), mask, LEVELS, [target]).alignment.item() > 1
    assert losses(output(logits, deltas + 3, centerness), mask, LEVELS, [target]).boxes.item() > 0.2


def test_training_a_small_head_finds_the_box_and_its_phrase() -> None:
    torch.manual_seed(0)
    config = HeadConfig(
        channels=16,
        text_width=16,
        convs=1,
        norm_groups=4,
        fusion_width=32,
        fusion_heads=2,
        text_heads=2,
        text_hidden=32,
        classes=0,
    )
    head = VLDyHead(config)
    levels = [torch.randn(1, 16, h, w) for h, w in SHAPES]
    tokens, mask = torch.randn(1, 4, 16), torch.tensor([[1, 1, 1, 0]])
    target = Targets(torch.tensor([[20.0, 30, 85, 99]]), torch.tensor([[0, 1.0, 0, 0]]))

    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    first = last = 0.0
    for step in range(15):
        found = losses(head(levels, tokens, mask), mask, LEVELS, [target])
        optimizer.zero_grad()
        torch.autograd.backward(found.total)
        optimizer.step()
        first, last = (found.total.item() if step == 0 else first), found.total.item()
    assert last < 0.8 * first
    assert all(parameter.grad is not None for name, parameter in head.named_parameters() if "scales" not in name)


def test_a_batch_without_any_box_still_has_gradients() -> None:
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, 4))
    logits = torch.zeros(1, len(ANCHORS), 4, requires_grad=True)
    deltas = torch.zeros(1, len(ANCHORS), 4, requires_grad=True)
    centerness = torch.zeros(1, len(ANCHORS), requires_grad=True)
    found = losses(output(logits, deltas, centerness), torch.ones(1, 4), LEVELS, [nothing])
    torch.autograd.backward(found.total)
    assert found.positives == 0 and logits.grad is not None and deltas.grad is not None
