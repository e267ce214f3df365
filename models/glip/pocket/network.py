"""The small GLIP: the trunk of ``unicl-pocket``, a pyramid of strides 8, 16 and 32, and GLIP's head in small.

Beside GLIP's own outputs there is an objectness for every place that asks for no text (the layer that GLIP's files
call ``cls_logits``): it finds things without names, and is the proposal network of ``regionclip-pocket``. Places get
their coordinates and tokens their order, without which a relation could not be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.focalnet import FocalNet
from models.glip.head import HeadConfig, VLDyHead
from models.unicl.pocket.network import DIM, IMAGE

STRIDES, SIZES = (8, 16, 32), (32, 64, 128)
"""Of the levels, and the side of each level's anchor: four cells."""
CHANNELS = 96
MAX_ORDER = 32
WAVES = 4
"""Frequencies of the coordinates: a half to four waves over the picture."""


@dataclass(frozen=True, slots=True)
class PocketConfig:
    """``fused`` is deep fusion, ``convs`` the head's blocks."""

    fused: bool = True
    convs: int = 2
    channels: int = CHANNELS

    @property
    def head(self) -> HeadConfig:
        """GLIP's head at this size."""
        return HeadConfig(
            channels=self.channels, text_width=DIM, convs=self.convs, fused=self.fused, fusion_width=256,
            fusion_heads=4, text_heads=4, text_hidden=512, levels=len(STRIDES), norm_groups=16, classes=1, dropout=0.0,
        )  # fmt: skip


class Outputs(NamedTuple):
    """Of all places, levels one after another: token logits ``(B, N, L)``, deltas ``(B, N, 4)``, centerness and
    objectness ``(B, N)``, and what the tower made of them ``(B, N, C)``."""

    tokens: Tensor
    deltas: Tensor
    centerness: Tensor
    objectness: Tensor
    places: Tensor


class Pyramid(nn.Module):
    """Maps of strides 8 and 16 to levels of strides 8, 16 and 32, ``C`` channels each (arXiv 1612.03144)."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        first, second = in_channels
        self.fpn_inner2 = nn.Conv2d(first, channels, 1)
        self.fpn_inner3 = nn.Conv2d(second, channels, 1)
        self.fpn_layer2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.fpn_layer3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.p5 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.place = nn.Linear(4 * WAVES, channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``(B, C_i, h, w)`` each, finest first, to three levels that know where they are."""
        fine, coarse = maps
        inner = self.fpn_inner3(coarse)
        above = self.fpn_inner2(fine) + F.interpolate(inner, size=fine.shape[2:], mode="nearest")
        p4 = self.fpn_layer3(inner)
        return [level + self._places(level) for level in (self.fpn_layer2(above), p4, self.p5(p4))]

    def _places(self, level: Tensor) -> Tensor:
        """Sines and cosines of each cell's coordinates, projected: ``(1, C, h, w)``."""
        height, width = level.shape[2:]
        down = (torch.arange(height, device=level.device) + 0.5) / height
        right = (torch.arange(width, device=level.device) + 0.5) / width
        rates = math.pi * 2.0 ** torch.arange(WAVES, device=level.device)
        rows = torch.cat([(down[:, None] * rates).sin(), (down[:, None] * rates).cos()], dim=1)  # (h, 2 W)
        columns = torch.cat([(right[:, None] * rates).sin(), (right[:, None] * rates).cos()], dim=1)  # (w, 2 W)
        both = torch.cat(
            [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=2
        )  # (h, w, 4 W)
        projected: Tensor = self.place(both)
        return projected.permute(2, 0, 1)[None]


class PocketGlip(nn.Module):
    """Pictures and rows of a text to :class:`Outputs`."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = FocalNet(IMAGE)
        self.fpn = Pyramid(IMAGE.dims[1:], config.channels)
        self.head = VLDyHead(config.head)
        self.order = nn.Parameter(torch.zeros(MAX_ORDER, DIM)) if config.fused else None
        self.row = nn.Linear(config.channels, DIM)
        """What a place would be called by the image tower that taught it."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised to the trunk's maps of strides 8 and 16, ``(B, C, h, w)``."""
        stages = self.trunk.stages(images)
        return [stages[1][0].permute(0, 3, 1, 2), self.trunk.norm(stages[2][0]).permute(0, 3, 1, 2)]

    def text(self, rows: Tensor) -> Tensor:
        """``(B, L, DIM)`` rows to tokens that know their order."""
        return rows if self.order is None else rows + self.order[: rows.shape[1]]

    def forward(self, images: Tensor, rows: Tensor, mask: Tensor) -> Outputs:
        """``images (B, 3, H, W)`` normalised, sides multiples of 32; ``rows (B, L, DIM)``, ``mask (B, L) int64``."""
        levels = self.fpn(self.maps(images))
        return self.outputs(levels, rows, mask)

    def outputs(self, levels: Sequence[Tensor], rows: Tensor, mask: Tensor) -> Outputs:
        """The head over levels of the pyramid."""
        found = self.head(levels, self.text(rows), mask)
        assert self.head.cls_logits is not None
        return Outputs(
            tokens=torch.cat(list(found.logits), dim=1).float(),
            deltas=_flat(found.deltas).float(),
            centerness=_flat(found.centerness)[..., 0].float(),
            objectness=_flat([self.head.cls_logits(level) for level in found.levels])[..., 0].float(),
            places=_flat(found.levels),
        )


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """``(B, C, h, w)`` a level to ``(B, N, C)``."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1)
