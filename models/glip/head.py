"""GLIP's head: blocks that mix levels and fuse them with the text, then a logit for every place and token.

Reference: ``VLDyHead`` in ``maskrcnn_benchmark/modeling/rpn/vldyhead.py`` of microsoft/GLIP, whose names the
parameters bear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.glip.dyconv import DyConv
from models.glip.fusion import LIMIT, Fusion
from models.text.bert import BertConfig, Layer, mask_bias

PRIOR = 0.01
"""The score that an untrained head gives to everything (arXiv 1708.02002, section 4.1)."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Sizes of the head, by default those of GLIP-T.

    ``fused`` is deep fusion: without it the text is only read by the last product. ``classes`` sizes a layer of the
    published files that nothing reads; 0 leaves it out.
    """

    channels: int = 256
    text_width: int = 768
    convs: int = 6
    fused: bool = True
    fusion_width: int = 2048
    fusion_heads: int = 8
    text_heads: int = 12
    text_hidden: int = 3072
    levels: int = 5
    norm_groups: int = 16
    reduction: int = 4
    classes: int = 80
    dropout: float = 0.1

    @property
    def text_layer(self) -> BertConfig:
        """The layer that reads the text anew after each fusion."""
        return BertConfig(width=self.text_width, heads=self.text_heads, hidden=self.text_hidden, limit=LIMIT)


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """One entry a level, finest first: logits ``(B, h * w, T)``, box deltas ``(B, 4, h, w)`` and centerness
    ``(B, 1, h, w)``; and what the tower made of levels and text."""

    logits: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    centerness: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]
    tokens: Tensor


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class VLDyHead(nn.Module):
    """Levels of a pyramid and tokens of a text to logits, box deltas and centerness."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.dyhead_tower = nn.Sequential(*_blocks(config))
        self.cls_logits = nn.Conv2d(config.channels, config.classes, 1) if config.classes else None
        self.bbox_pred = nn.Conv2d(config.channels, 4, 1)
        self.centerness = nn.Conv2d(config.channels, 1, 1)
        self.scales = nn.ModuleList(Scale() for _ in range(config.levels))

        self.dot_product_projection_text = nn.Linear(config.text_width, config.channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(config.text_width))
        self.bias0 = nn.Parameter(torch.tensor([-math.log((1 - PRIOR) / PRIOR)]))

        for layer in (self.bbox_pred, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> HeadOutput:
        """``(B, C, h, w)`` a level, tokens ``(B, T, D) float32`` and their mask ``(B, T) int64`` of ones and zeros."""
        mixed, fused = self.tower(levels, tokens, mask)
        weight, bias = self.token_classifier(fused)
        return HeadOutput(
            logits=tuple(self.token_logits(level, weight, bias) for level in mixed),
            deltas=tuple(scale(self.bbox_pred(level)) for scale, level in zip(self.scales, mixed, strict=True)),
            centerness=tuple(self.centerness(level) for level in mixed),
            levels=tuple(mixed),
            tokens=fused,
        )

    def tower(self, levels: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """The blocks alone."""
        mixed = list(levels)
        bias = mask_bias(mask, tokens.dtype)
        for block in self.dyhead_tower:
            if isinstance(block, Fusion):
                mixed, tokens = block(mixed, tokens, mask)
            elif isinstance(block, Layer):
                tokens = block(tokens, bias)
            else:
                mixed = block(mixed)
        return mixed, tokens

    def token_classifier(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T, D)`` to a weight ``(B, T, C)`` and a bias ``(B, T)`` for every token."""
        direction = F.normalize(tokens, dim=-1)
        weight = self.dot_product_projection_text(direction / 2) / self.log_scale.exp()
        return weight, direction @ self.bias_lang + self.bias0

    def token_logits(self, level: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``(B, C, h, w)``, ``(B, T, C)`` and ``(B, T)`` to ``(B, h * w, T)``."""
        places = level.permute(0, 2, 3, 1).flatten(1, 2)
        return (places @ weight.transpose(1, 2) + bias[:, None]).clamp(-LIMIT, LIMIT)


def _blocks(config: HeadConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for _ in range(config.convs):
        if config.fused:
            blocks.append(
                Fusion(
                    config.channels,
                    config.text_width,
                    config.fusion_width,
                    config.fusion_heads,
                    share=1 / config.convs,
                    dropout=config.dropout,
                )
            )
            blocks.append(Layer(config.text_layer))
        blocks.append(DyConv(config.channels, config.norm_groups, config.reduction))
    return blocks
