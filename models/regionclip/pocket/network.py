"""The small RegionCLIP: things found without names, and a vector of each in the space of ``unicl-pocket``.

The trunk, the pyramid and the tower without deep fusion are those of :class:`models.glip.pocket.network.PocketGlip`,
whose objectness is the proposal network here. Regions are pooled from the trunk's map of stride 8 and pass its last
stage, as RegionCLIP pools ``res4`` and passes ``layer4`` (arXiv 2112.09106, section 3.1).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.focalnet import FocalNet
from models.backbones.roi_align import roi_align
from models.glip.pocket.network import PocketGlip

POOLED = 6
"""Cells a side of a pooled region: what the stage's map has of a picture of 48 pixels."""
STRIDE = 8


class RegionHead(nn.Module):
    """The trunk's last stage over pooled regions, and the projection of the image tower."""

    def __init__(self, trunk: FocalNet) -> None:
        super().__init__()
        trunk = copy.deepcopy(trunk)
        self.downsample = trunk.layers[1].downsample
        self.stage = trunk.layers[2]
        self.norm = trunk.norm
        self.head = trunk.head

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """``(B, 96, h, w)`` of stride 8 and regions ``(N, 5)``, image number and edges in pixels, to ``(N, 256)``."""
        assert isinstance(self.downsample, nn.Module) and isinstance(self.head, nn.Module)
        x = self.downsample(roi_align(features, rois, POOLED, 1 / STRIDE, sampling=2))  # (N, 3, 3, 192)
        for block in self.stage.get_submodule("blocks").children():
            x, _ = block(x)
        return F.normalize(self.head(self.norm(x).mean(dim=(1, 2))).float(), dim=-1)


class PocketRegionClip(nn.Module):
    """What finds things, and what says where they lie among the texts."""

    def __init__(self, proposals: PocketGlip, regions: RegionHead) -> None:
        super().__init__()
        self.proposals = proposals
        self.regions = regions

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` normalised to the map that regions are pooled from ``(B, 96, h, w)``, and deltas
        ``(B, N, 4)``, centerness and objectness ``(B, N)`` of all places."""
        maps = self.proposals.maps(images)
        blank = images.new_zeros(images.shape[0], 1, 256)
        mask = torch.ones(images.shape[0], 1, dtype=torch.int64, device=images.device)
        found = self.proposals.outputs(self.proposals.fpn(maps), blank, mask)
        return maps[0], found.deltas, found.centerness, found.objectness
