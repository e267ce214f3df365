"""CLIP's ModifiedResNet (arXiv 2103.00020, section 2.4): three stem convolutions, blur before strides, attention pool.

Parameter names are those of OpenAI's ``visual.`` and RegionCLIP's ``backbone.``. Norms are frozen, as RegionCLIP has
them. It is taken apart as detectors do (C4): :meth:`ModifiedResNet.res4` over a picture, then ``layer4`` and
``attnpool`` over each region.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.frozen_norm import FrozenBatchNorm2d

EXPANSION = 4
STRIDE = 16
"""Pixels a side of a cell of ``res4``."""


@dataclass(frozen=True, slots=True)
class ModifiedResNetConfig:
    """One network; the default is CLIP's RN50. ``pool_side`` is the side of the map that the attention pool takes."""

    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    heads: int = 32
    dim: int = 1024
    pool_side: int = 7


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, mean over ``stride`` x ``stride``, 1 x 1; a shortcut that is averaged and projected alike."""

    def __init__(self, in_dim: int, width: int, stride: int) -> None:
        super().__init__()
        out_dim = width * EXPANSION
        self.stride = stride
        self.conv1 = nn.Conv2d(in_dim, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_dim, 1, bias=False)
        self.bn3 = FrozenBatchNorm2d(out_dim)
        self.downsample = (
            nn.Sequential(
                OrderedDict(
                    {
                        "-1": nn.AvgPool2d(stride),
                        "0": nn.Conv2d(in_dim, out_dim, 1, bias=False),
                        "1": FrozenBatchNorm2d(out_dim),
                    }
                )
            )
            if stride > 1 or in_dim != out_dim
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, 4 * width, H // stride, W // stride)``."""
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        if self.stride > 1:
            branch = F.avg_pool2d(branch, self.stride)
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    """A map to one vector: its mean is the query of an attention over its cells."""

    def __init__(self, side: int, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, side, side)`` to ``(N, dim)``."""
        cells = x.flatten(2).transpose(1, 2)  # (N, side * side, C)
        cells = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + self.positional_embedding
        query = self._per_head(self.q_proj(cells[:, :1]))  # (N, heads, 1, C / heads)
        key, value = self._per_head(self.k_proj(cells)), self._per_head(self.v_proj(cells))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.c_proj(attended.transpose(1, 2).flatten(1))

    def _per_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ModifiedResNet(nn.Module):
    """Stem, four stages, attention pool."""

    def __init__(self, config: ModifiedResNetConfig) -> None:
        super().__init__()
        self.config = config
        half, width = config.width // 2, config.width
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = FrozenBatchNorm2d(width)

        in_dim = width
        for stage, depth in enumerate(config.depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(in_dim, width * 2**stage, stride=2 if stage > 0 and block == 0 else 1))
                in_dim = width * 2**stage * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(config.pool_side, in_dim, config.heads, config.dim)

    def res4(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to the map of the third stage, ``(B, 16 * width, H / 16, W / 16)``."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool2d(x, 2)
        for stage in range(1, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        return x

    def pooled(self, regions: Tensor) -> Tensor:
        """Parts of ``res4``, ``(N, 16 * width, 2 * pool_side, 2 * pool_side)``, to one vector each, ``(N, dim)``."""
        return self.attnpool(self.get_submodule("layer4")(regions))
