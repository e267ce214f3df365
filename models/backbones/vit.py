"""The vision transformer of CLIP (arXiv 2103.00020, section 2.4): patches and a class token to one vector a picture.

Parameter names are those of OpenAI's image towers below ``visual.``, so that they load strictly.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.mlp import QuickGELU


@dataclass(frozen=True, slots=True)
class VitConfig:
    """One tower; the default is CLIP ViT-B/32. ``output_dim`` is the width of the space shared with texts."""

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    output_dim: int = 512
    num_classes: int = 0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image size {self.image_size} is no multiple of the patch size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads")
        if self.num_classes:
            raise ValueError("CLIP's image tower has no classification head: num_classes must be 0")


class VitAttention(nn.Module):
    """Multi-head self-attention with the packed parameters of ``nn.MultiheadAttention``: query, key, value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, W)`` to the same."""
        length, width = x.shape[1:]
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).reshape(
            -1, length, 3, self.heads, width // self.heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, L, W / heads)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).reshape(-1, length, width))


class VitBlock(nn.Module):
    """Attention and MLP on residual branches, norms before them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = VitAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, W)`` to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class _Blocks(nn.Module):
    """Holder of the blocks under their published name, ``transformer.resblocks``."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*[VitBlock(config.width, config.heads) for _ in range(config.layers)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class Vit(nn.Module):
    """The tower: ``pooled`` features are the class token's, projected, not yet of unit length."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.dim_out = config.output_dim
        width, spread = config.width, config.width**-0.5
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(spread * torch.randn(width))
        tokens = (config.image_size // config.patch_size) ** 2 + 1
        self.positional_embedding = nn.Parameter(spread * torch.randn(tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Blocks(config)
        self.proj = nn.Parameter(spread * torch.randn(width, config.output_dim))

    def pooled(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to ``(B, output_dim)``; raises ``ValueError`` for another size."""
        side = self.config.image_size
        if images.shape[2] != side or images.shape[3] != side:
            raise ValueError(f"this tower takes {side} x {side}, not {tuple(images.shape[2:])}")
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, L, W)
        start = self.class_embedding + torch.zeros_like(patches[:, :1])  # (B, 1, W), whatever the batch
        x = torch.cat([start, patches], dim=1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to ``(B, output_dim)``."""
        return self.pooled(images)
