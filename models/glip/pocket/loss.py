"""GLIP's losses over a batch of scenes (:mod:`models.glip.losses`), and two more: objectness, which knows no text, by
the same focal loss, and what the image tower of ``unicl-pocket`` says of the thing (arXiv 2112.09106, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.glip.losses import BOX_WEIGHT, TINY, alignment_loss, centerness_of, decode, generalized_iou
from models.glip.pocket.network import Outputs


class Targets(NamedTuple):
    """Of a batch: the box of every place ``(B, N, 4)``, both corners inside, and whether it has one ``(B, N)``; its
    tokens ``(B, N, L)``; the text's mask ``(B, L)``; the teacher's row ``(B, N, 256)`` of places that have a box."""

    boxes: Tensor
    taken: Tensor
    tokens: Tensor
    mask: Tensor
    teacher: Tensor


class Losses(NamedTuple):
    """Each a number; their sum is what is minimised."""

    alignment: Tensor
    objectness: Tensor
    giou: Tensor
    centerness: Tensor
    distil: Tensor


def losses(found: Outputs, taught: Tensor, targets: Targets, anchors: Tensor, *, distil: float = 1.0) -> Losses:
    """``taught (P, 256)`` are what the network says of the teacher's rows at the places that have a box."""
    taken = targets.taken
    count = taken.sum().clamp(min=1)
    alignment = alignment_loss(found.tokens, targets.tokens, targets.mask) / count
    blank = torch.ones_like(taken[:, :1], dtype=torch.int64)
    objectness = alignment_loss(found.objectness[..., None], taken[..., None].float(), blank) / count

    own = anchors.expand_as(targets.boxes)[taken]
    boxes = targets.boxes[taken]
    centred = centerness_of(own, boxes)
    apart = 1 - generalized_iou(decode(found.deltas[taken], own), boxes)
    inner = F.binary_cross_entropy_with_logits(found.centerness[taken], centred, reduction="sum") / count
    alike = 1 - F.cosine_similarity(taught.float(), targets.teacher[taken], dim=-1)
    return Losses(
        alignment=alignment,
        objectness=objectness,
        giou=BOX_WEIGHT * (apart * centred).sum() / centred.sum().clamp(min=TINY),
        centerness=inner,
        distil=distil * alike.sum() / count,
    )
