"""The localisation branch: detectron2's ResNet-50 with FPN (LVIS) or C4 (COCO) and its region proposal network.

Faster R-CNN, arXiv 1506.01497; FPN, arXiv 1612.03144. Parameter names are detectron2's, under ``offline_backbone.`` and
``offline_proposal_generator.`` in RegionCLIP's files. It was trained on boxes alone and finds things of any name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.regionclip.msra_resnet import ResNet, ResNetFPN, last_width

PIXEL_MEAN = (103.53, 116.28, 123.675)
"""Of blue, green and red from 0 to 255; nothing is divided by, as Microsoft's ResNet-50 was trained."""

SIDES = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
"""Sides of square anchors in pixels, and how high an anchor of the same area is for its width."""

LARGEST_SCALE = math.log(1000 / 16)
"""The logarithm of the most that a box may grow by."""


@dataclass(frozen=True, slots=True)
class ProposalConfig:
    """``fpn``: five levels with one size of anchor each, else C4, one level with all. ``synced``: the file that was
    trained with large-scale jitter, whose pyramid has norms and whose head has two convolutions. ``most``: how many
    boxes of each level go to suppression."""

    fpn: bool = True
    synced: bool = False
    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    pyramid: int = 256
    most: int = 1000

    @property
    def levels(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Of each level: pixels a side of a cell, and the sides of its anchors."""
        if not self.fpn:
            return ((16, SIDES),)
        return tuple((4 * 2**level, (side,)) for level, side in zip(range(len(self.depths) + 1), SIDES, strict=False))

    @property
    def multiple(self) -> int:
        """What the sides of pictures are padded to a multiple of."""
        return 2 ** (len(self.depths) + 1) if self.fpn else 1


def build_backbone(config: ProposalConfig) -> ResNet | ResNetFPN:
    """Images ``(B, 3, H, W)`` to one map a level."""
    if config.fpn:
        return ResNetFPN(config.depths, config.width, config.pyramid, normed=config.synced)
    return ResNet(config.depths[:3], config.width)


class ProposalHead(nn.Module):
    """A 3 x 3 convolution (two where ``synced``), then objectness and box corrections of every anchor."""

    def __init__(self, config: ProposalConfig) -> None:
        super().__init__()
        width = config.pyramid if config.fpn else last_width(config.depths[:3], config.width)
        anchors = len(RATIOS) * len(config.levels[0][1])
        if config.synced:
            self.conv: nn.Module = nn.Sequential()
            self.conv.add_module("conv0", nn.Conv2d(width, width, 3, padding=1))
            self.conv.add_module("conv1", nn.Conv2d(width, width, 3, padding=1))
        else:
            self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.objectness_logits = nn.Conv2d(width, anchors, 1)
        self.anchor_deltas = nn.Conv2d(width, 4 * anchors, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` to logits ``(B, H * W * A)`` and corrections ``(B, H * W * A, 4)``."""
        for layer in self.conv if isinstance(self.conv, nn.Sequential) else [self.conv]:
            x = F.relu(layer(x))
        logits = self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1)
        deltas = self.anchor_deltas(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return logits, deltas


class ProposalGenerator(nn.Module):
    """Maps to a box at every anchor, and how likely each is a thing."""

    def __init__(self, config: ProposalConfig) -> None:
        super().__init__()
        self.config = config
        self.rpn_head = ProposalHead(config)

    def forward(self, maps: list[Tensor], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors corrected and clipped to pictures of ``height`` x ``width`` pixels.

        Boxes ``(B, A, 4)``, objectness logits ``(B, A)`` and the level of each, ``(B, A) int64``, level by level.
        """
        boxes, logits, levels = [], [], []
        for level, (x, (stride, sides)) in enumerate(zip(maps, self.config.levels, strict=True)):
            objectness, deltas = self.rpn_head(x)
            grid = anchors(x.shape[2], x.shape[3], stride, sides, x)
            boxes.append(clip(decode(grid, deltas), height, width))
            logits.append(objectness)
            levels.append(torch.full_like(objectness, level, dtype=torch.int64))
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1), torch.cat(levels, dim=1)


def anchor_boxes(backbone: nn.Module, generator: ProposalGenerator, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, 3, H, W)``, blue green red less :data:`PIXEL_MEAN`, to what :class:`ProposalGenerator` gives.

    Which of them are proposals is said by :func:`models.regionclip.detections.proposals`.
    """
    height, width = images.shape[2:]
    multiple = generator.config.multiple
    if multiple > 1:
        images = F.pad(images, (0, -width % multiple, 0, -height % multiple))
    return generator(backbone(images), height, width)


def anchors(rows: int, columns: int, stride: int, sides: tuple[int, ...], like: Tensor) -> Tensor:
    """``(rows * columns * A, 4)``: around the upper left corner of each cell, every ratio of every side."""
    shapes = [(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in RATIOS]
    cell = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in shapes], device=like.device)
    y = torch.arange(rows, device=like.device)[:, None].expand(rows, columns) * float(stride)
    x = torch.arange(columns, device=like.device)[None, :].expand(rows, columns) * float(stride)
    corners = torch.stack([x, y, x, y], dim=2).flatten(0, 1)  # (rows * columns, 4)
    return (corners[:, None] + cell).flatten(0, 1)


def decode(boxes: Tensor, deltas: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """Boxes ``(..., 4)`` moved and grown by ``deltas`` ``(..., 4)``, each first divided by its weight.

    Faster R-CNN's coding, equation 2 of arXiv 1506.01497, widths as right minus left.
    """
    size = boxes[..., 2:] - boxes[..., :2]
    middle = boxes[..., :2] + size / 2
    divisor = torch.tensor(weights, dtype=deltas.dtype, device=deltas.device)
    shift, growth = (deltas / divisor).split(2, dim=-1)
    middle = middle + shift * size
    half = size * growth.clamp(max=LARGEST_SCALE).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes ``(..., 4)`` cut off at the edges of a picture."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)
