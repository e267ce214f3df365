"""Which cells learn which box: adaptive training sample selection (ATSS, Zhang et al. 2020, arXiv 1912.02424)."""

from __future__ import annotations

import torch
from torch import Tensor

from services.finetuning.detection.photos import Objects

NEAREST = 9
"""Cells a level and box that are candidates (the paper's k)."""
ANCHOR = 5
"""Sides of a cell's anchor in strides, as Generalized Focal Loss has them."""
BACKGROUND, IGNORED = -1, -2


def assign(cells: Tensor, objects: Objects) -> Tensor:
    """``(N,)``: the number of each cell's box, :data:`BACKGROUND` or :data:`IGNORED`; ``cells (N, 3)`` x, y, stride.

    A candidate learns a box when its anchor overlaps it by the mean plus the deviation of all candidates of that box,
    and lies inside. A box without any such cell is learned by the nearest free one, so that none is lost.
    """
    assigned = torch.full((len(cells),), BACKGROUND)
    centres = cells[:, :2]
    assigned[_within(centres, objects.ignored).any(dim=1)] = IGNORED
    if not len(objects.boxes):
        return assigned

    half = ANCHOR * cells[:, 2:] / 2
    ious = pairwise_iou(torch.cat((centres - half, centres + half), dim=1), objects.boxes)  # (N, G)
    middles = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
    distances = torch.cdist(centres, middles)

    candidates = torch.zeros_like(ious, dtype=torch.bool)
    for stride in cells[:, 2].unique():
        level = torch.nonzero(cells[:, 2] == stride)[:, 0]
        nearest = distances[level].topk(min(NEAREST, len(level)), dim=0, largest=False).indices
        candidates.scatter_(0, level[nearest], True)

    count = candidates.sum(0).clamp(min=2)
    held = torch.where(candidates, ious, torch.zeros_like(ious))
    mean = held.sum(0) / count
    spread = (torch.where(candidates, (ious - mean) ** 2, torch.zeros_like(ious)).sum(0) / (count - 1)).sqrt()
    fits = candidates & (ious >= mean + spread) & _within(centres, objects.boxes)

    best, owner = torch.where(fits, ious, torch.full_like(ious, -1)).max(dim=1)
    assigned = torch.where(best >= 0, owner, assigned)
    lost = [box for box in range(len(objects.boxes)) if not (assigned == box).any()]
    for box in lost:  # no cell fits, or others fit all of its cells better
        free = distances[:, box].masked_fill(assigned >= 0, torch.inf)
        if torch.isfinite(free).any():
            assigned[free.argmin()] = box
    return assigned


def _within(points: Tensor, boxes: Tensor) -> Tensor:
    """``(N, G)``: which ``points (N, 2)`` lie inside which ``boxes (G, 4)``."""
    return ((points[:, None] > boxes[None, :, :2]) & (points[:, None] < boxes[None, :, 2:])).all(dim=2)


def pairwise_iou(some: Tensor, others: Tensor) -> Tensor:
    """``(N, M)`` of ``(N, 4)`` and ``(M, 4)``."""
    low = torch.maximum(some[:, None, :2], others[None, :, :2])
    high = torch.minimum(some[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (some, others)]
    return common / (areas[0][:, None] + areas[1][None] - common).clamp(min=1e-9)
