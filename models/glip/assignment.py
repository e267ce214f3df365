"""Which anchors answer for which boxes: adaptive training sample selection (ATSS, arXiv 1912.02424, algorithm 1).

Reference: ``ATSSLossComputation`` in ``maskrcnn_benchmark/modeling/rpn/loss.py`` of microsoft/GLIP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES = 9
"""The anchors of every level that are nearest to a box."""

INSIDE = 0.01
"""Pixels by which the centre of an anchor must lie inside the box that it answers for."""

BACKGROUND = -1


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of ``(N, 4)`` and ``(M, 4)``, ``(N, M) float32``, edges counted to their boxes."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low + 1).clamp(min=0).prod(-1)
    areas = [(one[:, 2:] - one[:, :2] + 1).prod(-1) for one in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def assign(levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """The box that every anchor answers for: ``(A,) int64``, :data:`BACKGROUND` for none.

    ``levels`` are the anchors ``(A_l, 4)`` of one picture, finest first, and ``boxes (N, 4)`` what it shows. A box
    takes, among the anchors nearest to its centre, those that overlap it by more than their mean and deviation, and
    whose centre lies in it. An anchor of several boxes goes to the one that it overlaps most.
    """
    anchors = torch.cat(list(levels))
    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)

    centres, targets = ((one[:, :2] + one[:, 2:]) / 2 for one in (anchors, boxes))
    distance = torch.cdist(centres, targets, compute_mode="donot_use_mm_for_euclid_dist")
    candidates = _nearest(distance, [len(level) for level in levels])  # (K, N)

    overlap = overlaps(anchors, boxes)
    shares = overlap.gather(0, candidates)
    enough = shares >= shares.mean(0) + shares.std(0)
    centre = centres[candidates]  # (K, N, 2)
    inside = torch.cat([centre - boxes[:, :2], boxes[:, 2:] - centre], dim=-1).amin(-1) > INSIDE

    chosen = torch.full_like(overlap, -1.0)
    chosen.scatter_(0, candidates, torch.where(enough & inside, shares, -1.0))
    best, box = chosen.max(1)
    return torch.where(best >= 0, box, BACKGROUND)


def _nearest(distance: Tensor, counts: Sequence[int]) -> Tensor:
    """The nearest anchors of each level, as rows of all anchors: ``(A, N)`` to ``(K, N) int64``."""
    found, start = [], 0
    for count in counts:
        part = distance[start : start + count]
        found.append(part.topk(min(CANDIDATES, count), dim=0, largest=False).indices + start)
        start += count
    return torch.cat(found)
