"""What GLIP is trained by: alignment of places and tokens, boxes, and how central a place is in its box.

Reference: arXiv 2112.03857, section 3, and ``ATSSLossComputation`` in ``maskrcnn_benchmark/modeling/rpn/loss.py`` of
microsoft/GLIP. Everything is divided by the number of places that answer for a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.glip.assignment import BACKGROUND, assign
from models.glip.boxes import MOST_GROWTH, WEIGHTS
from models.glip.head import HeadOutput

ALPHA, GAMMA = 0.25, 2.0
"""The focal loss's weight of positives, and how much it leaves out what is already right."""

BOX_WEIGHT = 2.0
"""Of the box loss in the sum."""

TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Targets:
    """What one picture shows. ``boxes (N, 4)`` in pixels of the tensor, ``positive (N, T)`` the tokens that name each:
    anything above zero."""

    boxes: Tensor
    positive: Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """The three of them, scalars; ``total`` is what is minimised. ``positives`` is the number of places."""

    alignment: Tensor
    boxes: Tensor
    centerness: Tensor
    positives: int

    @property
    def total(self) -> Tensor:
        return self.alignment + BOX_WEIGHT * self.boxes + self.centerness


def losses(output: HeadOutput, mask: Tensor, levels: Sequence[Tensor], targets: Sequence[Targets]) -> Losses:
    """Of a batch: ``mask (B, T)`` of its texts, the anchors ``(A_l, 4)`` of its levels, and a target a picture."""
    logits = torch.cat(list(output.logits), dim=1)  # (B, A, T)
    deltas = torch.cat([level.flatten(2).transpose(1, 2) for level in output.deltas], dim=1)  # (B, A, 4)
    centerness = torch.cat([level.flatten(1) for level in output.centerness], dim=1)  # (B, A)

    boxes = torch.stack([assign(levels, target.boxes) for target in targets])  # (B, A)
    wanted = torch.stack([_tokens(box, target) for box, target in zip(boxes, targets, strict=True)])
    positives = int((boxes != BACKGROUND).sum())
    count = max(positives, 1)
    alignment = alignment_loss(logits, wanted, mask) / count
    if not positives:
        nothing = deltas.sum() * 0 + centerness.sum() * 0
        return Losses(alignment, nothing, nothing, 0)

    picture, place = (boxes != BACKGROUND).nonzero(as_tuple=True)
    anchors = torch.cat(list(levels))[place]
    truth = torch.stack([targets[at].boxes[box] for at, box in _pairs(picture, boxes[picture, place])])
    central = centerness_of(anchors, truth)
    found = decode(deltas[picture, place], anchors)
    return Losses(
        alignment,
        (central * (1 - generalized_iou(found, truth))).sum() / central.sum().clamp(min=TINY),
        F.binary_cross_entropy_with_logits(centerness[picture, place], central, reduction="sum") / count,
        positives,
    )


def alignment_loss(logits: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Binary focal loss (arXiv 1708.02002) of every place and token that is no padding, summed.

    ``logits`` and ``wanted`` (0 or 1) are ``(B, A, T)``, ``mask`` is ``(B, T)``.
    """
    score = logits.sigmoid()
    right = score * wanted + (1 - score) * (1 - wanted)
    weight = (ALPHA * wanted + (1 - ALPHA) * (1 - wanted)) * (1 - right) ** GAMMA
    each = weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (each * (mask > 0)[:, None]).sum()


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """GIoU (arXiv 1902.09630) of row and row, ``(N, 4)`` twice to ``(N,)``, here without the pixel of an edge."""
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)
    shared = (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0)
    hull = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    intersection = shared.prod(-1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (others[:, 2:] - others[:, :2]).prod(-1) - intersection + TINY
    enclosing = hull.prod(-1) + TINY
    return intersection / union - (enclosing - union) / enclosing


def centerness_of(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How central the middle of each anchor is in its box, ``(N,)`` of 0 to 1 (FCOS, arXiv 1904.01355, equation 3)."""
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    before, after = centre - boxes[:, :2], boxes[:, 2:] - centre
    return (torch.minimum(before, after) / torch.maximum(before, after)).prod(-1).clamp(min=0).sqrt()


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Deltas of anchors to boxes, ``(N, 4)`` each: :func:`models.glip.boxes.decode` with gradients."""
    size = anchors[:, 2:] - anchors[:, :2] + 1
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] / WEIGHTS[0] * size
    size = size * (deltas[:, 2:] / WEIGHTS[2]).clamp(max=math.log(MOST_GROWTH)).exp()
    half = 0.5 * (size - 1)
    return torch.cat([centre - half, centre + half], dim=1)


def _tokens(box: Tensor, target: Targets) -> Tensor:
    """``(A,)`` boxes of anchors to the tokens ``(A, T)`` that each place is to be like: none for the background."""
    if not len(target.boxes):
        return target.positive.new_zeros((len(box), target.positive.shape[1]), dtype=torch.float32)
    wanted = (target.positive > 0).float()[box.clamp(min=0)]
    return wanted * (box != BACKGROUND)[:, None]


def _pairs(picture: Tensor, box: Tensor) -> list[tuple[int, int]]:
    return [(int(at), int(one)) for at, one in zip(picture.tolist(), box.tolist(), strict=True)]
