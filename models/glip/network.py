"""GLIP (arXiv 2112.03857): trunk and pyramid, text encoder, and the head that joins them, under the published names.

Reference: ``GeneralizedVLRCNN`` of microsoft/GLIP. What its heads give becomes boxes in
:mod:`models.glip.postprocess`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.backbones.swin_pyramid import SwinPyramid, SwinPyramidConfig
from models.glip.anchors import SIZES, STRIDES, cell_anchor
from models.glip.fpn import FeaturePyramid
from models.glip.head import HeadConfig, HeadOutput, VLDyHead
from models.text.bert import Bert, BertConfig


@dataclass(frozen=True, slots=True)
class GlipConfig:
    """One GLIP; by default GLIP-T."""

    swin: SwinPyramidConfig = field(default_factory=SwinPyramidConfig)
    bert: BertConfig = field(default_factory=BertConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


class Backbone(nn.Module):
    """Any trunk of several maps, and the pyramid over them."""

    def __init__(self, body: nn.Module, fpn: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to levels ``(B, C, h, w)``, finest first."""
        levels: list[Tensor] = self.fpn(self.body(images))
        return levels


class CellAnchors(nn.Module):
    """The box of each level's first cell, ``(1, 4)``: buffers of the published files, a part of no computation."""

    def __init__(self) -> None:
        super().__init__()
        self.cell_anchors = nn.Module()
        for level, (size, stride) in enumerate(zip(SIZES, STRIDES, strict=True)):
            anchor = torch.tensor(cell_anchor(size, stride))[None]
            self.cell_anchors.register_buffer(str(level), anchor)


class Glip(nn.Module):
    """Pictures and tokenised texts to :class:`models.glip.head.HeadOutput`."""

    def __init__(self, config: GlipConfig) -> None:
        super().__init__()
        self.config = config
        body = SwinPyramid(config.swin)
        self.backbone = Backbone(body, FeaturePyramid(body.dims_out, config.head.channels))
        text = Bert(config.bert)
        self.language_backbone = nn.ModuleDict({"body": nn.ModuleDict({"model": text})})
        head = VLDyHead(config.head)
        self.rpn = nn.ModuleDict({"head": head, "anchor_generator": CellAnchors()})

    @property
    def bert(self) -> Bert:
        """The text encoder."""
        found = self.get_submodule("language_backbone.body.model")
        assert isinstance(found, Bert)
        return found

    @property
    def head(self) -> VLDyHead:
        """What joins picture and text."""
        found = self.rpn["head"]
        assert isinstance(found, VLDyHead)
        return found

    def tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``(B, T) int64`` twice to what the head reads of the text, ``(B, T, D) float32``.

        With deep fusion that is the encoder's last hidden state; without it, padding is set to zero.
        """
        hidden: Tensor = self.bert(input_ids, attention_mask)
        return hidden if self.config.head.fused else hidden * attention_mask[..., None].to(hidden.dtype)

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> HeadOutput:
        """``images (B, 3, H, W)`` normalised BGR, height and width multiples of 32; ids and mask ``(B, T) int64``."""
        levels = self.backbone(images)
        output: HeadOutput = self.head(levels, self.tokens(input_ids, attention_mask), attention_mask)
        return output
