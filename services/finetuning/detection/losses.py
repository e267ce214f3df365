"""The losses of Generalized Focal Loss (Li et al. 2020, arXiv 2006.04388) and GIoU (arXiv 1902.09630)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from services.finetuning.detection.assignment import IGNORED, assign
from services.finetuning.detection.photos import Objects

BETA = 2.0
BOX_WEIGHT, BINS_WEIGHT = 2.0, 0.25
"""As NanoDet-Plus was trained."""


def detection_loss(logits: Tensor, bins: Tensor, boxes: Tensor, cells: Tensor, shown: list[Objects]) -> Tensor:
    """Of a batch: class ``logits (B, N, K)``, box ``bins (B, N, 4, R)``, decoded ``boxes (B, N, 4)``, ``cells (N, 3)``.

    A cell's class is learned with the overlap of its box as the target (quality focal loss); cells that are ignored
    take no part.
    """
    quality_losses, box_losses, bin_losses = [], [], []
    learned, weight = logits.new_zeros(()), logits.new_zeros(())
    for own, distribution, found, objects in zip(logits, bins, boxes, shown, strict=True):
        owner = assign(cells, objects)
        cell = torch.nonzero(owner >= 0)[:, 0]
        target = torch.zeros_like(own)
        if len(cell):
            wanted = objects.boxes[owner[cell]]
            overlap, gap = giou(found[cell], wanted)
            target[cell, objects.labels[owner[cell]]] = overlap.detach().clamp(min=0)
            trust = own[cell].detach().sigmoid().amax(dim=1)
            box_losses.append((trust * gap).sum())
            bin_losses.append((trust * dfl(distribution[cell], cells[cell], wanted)).sum())
            weight = weight + trust.sum()
            learned = learned + len(cell)
        quality_losses.append(qfl(own, target)[owner != IGNORED].sum())

    loss = torch.stack(quality_losses).sum() / learned.clamp(min=1)
    if box_losses:
        boxes_loss, bins_loss = torch.stack(box_losses).sum(), torch.stack(bin_losses).sum()
        loss = loss + (BOX_WEIGHT * boxes_loss + BINS_WEIGHT * bins_loss) / weight.clamp(min=1)
    return loss


def qfl(logits: Tensor, target: Tensor) -> Tensor:
    """Equation 7: cross entropy weighed by how far the score is from its target, element by element."""
    distance = (target - logits.sigmoid()).abs() ** BETA
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * distance


def dfl(bins: Tensor, cells: Tensor, wanted: Tensor) -> Tensor:
    """Equation 6, the mean of four sides ``(P,)``: the two bins beside the true distance share the probability."""
    last = bins.shape[-1] - 1
    corner, stride = cells[:, :2], cells[:, 2:]
    sides = torch.cat((corner - wanted[:, :2], wanted[:, 2:] - corner), dim=1) / stride
    sides = sides.clamp(0, last - 0.1)
    left = sides.long()
    share = sides - left
    chances = bins.log_softmax(-1)
    below = chances.gather(-1, left[..., None])[..., 0]
    above = chances.gather(-1, (left + 1)[..., None])[..., 0]
    return -((1 - share) * below + share * above).mean(dim=1)


def giou(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap ``(P,)`` of pairs of boxes ``(P, 4)``, and 1 less the generalised overlap."""
    low, high = torch.maximum(found[:, :2], wanted[:, :2]), torch.minimum(found[:, 2:], wanted[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=1)
    area = sum((boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (found, wanted))
    union = (area - common).clamp(min=1e-6)
    outer_low, outer_high = torch.minimum(found[:, :2], wanted[:, :2]), torch.maximum(found[:, 2:], wanted[:, 2:])
    outer = (outer_high - outer_low).clamp(min=0).prod(dim=1).clamp(min=1e-6)
    overlap = common / union
    return overlap, 1 - (overlap - (outer - union) / outer)
