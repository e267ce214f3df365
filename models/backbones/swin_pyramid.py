"""Swin Transformer (arXiv 2103.14030) as the trunk of a detector: pictures of any size to maps of several strides.

Parameter names are those of the published detectors (``swint.py`` of microsoft/GLIP). Grids that no window divides are
padded with zeros inside every block and odd ones before a merge; windows keep their size however small the grid is.
Every size comes from the picture, also in an exported network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.drop_path import DropPath, linear_rates
from models.backbones.mlp import Mlp
from models.backbones.swin import NOT_SAME_REGION, PatchMerging, SwinConfig, WindowAttention, partition, unpartition


@dataclass(frozen=True, slots=True)
class SwinPyramidConfig:
    """One trunk; tuples have one entry a stage. ``stages_out`` are the stages whose maps are handed on, from 0."""

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    patch_size: int = 4
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    stages_out: tuple[int, ...] = (1, 2, 3)

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of every stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    @property
    def attention(self) -> SwinConfig:
        """What attention inside windows reads of the classifier's configuration."""
        side = self.patch_size * self.window * 2 ** (len(self.depths) - 1)
        return SwinConfig(side, self.embed_dim, self.depths, self.heads, self.window, self.patch_size)


class Block(nn.Module):
    """Window attention, shifted by half a window in every second block, and an MLP; norms before the branches."""

    def __init__(self, stage: int, shifted: bool, drop_path: float, config: SwinPyramidConfig) -> None:
        super().__init__()
        dim = config.dims[stage]
        self.window = config.window
        self.shift = config.window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, config.window, config.heads[stage], config.attention)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, W, C)`` to the same; ``mask`` as :func:`region_mask` gives it for the padded grid."""
        height, width = x.shape[1:3]
        branch = _padded(self.norm1(x), -height % self.window, -width % self.window)
        rows, columns = branch.shape[1:3]

        if self.shift:
            branch = torch.roll(branch, (-self.shift, -self.shift), dims=(1, 2))
        branch = self.attn(partition(branch, self.window), mask if self.shift else None)
        branch = unpartition(branch, self.window, rows, columns)
        if self.shift:
            branch = torch.roll(branch, (self.shift, self.shift), dims=(1, 2))

        x = x + self.drop_path(branch[:, :height, :width])
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """Blocks at one resolution; the merge belongs to the end of the stage, as in the published names."""

    def __init__(self, stage: int, rates: list[float], config: SwinPyramidConfig) -> None:
        super().__init__()
        self.window = config.window
        self.blocks = nn.ModuleList(
            Block(stage, index % 2 == 1, drop_path=rate, config=config) for index, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(config.dims[stage]) if stage < len(config.depths) - 1 else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to the blocks' ``(B, H, W, C)``, and what the next stage takes."""
        height, width = x.shape[1:3]
        mask = region_mask(height + -height % self.window, width + -width % self.window, self.window, x)
        for block in self.blocks:
            x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(_padded(x, height % 2, width % 2))


class PatchEmbed(nn.Module):
    """Patches to tokens: one convolution and a norm; pictures are padded to whole patches."""

    def __init__(self, config: SwinPyramidConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, stride=config.patch_size)
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, H / patch, W / patch, C)``, rounded up."""
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinPyramid(nn.Module):
    """The trunk. ``norm{stage}`` stands before each map that is handed on."""

    def __init__(self, config: SwinPyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.dims_out = tuple(config.dims[stage] for stage in config.stages_out)
        self.patch_embed = PatchEmbed(config)
        rates = linear_rates(config.drop_path, config.depths)
        self.layers = nn.ModuleList(Stage(stage, rates[stage], config) for stage in range(len(config.depths)))
        for stage in config.stages_out:
            self.add_module(f"norm{stage}", nn.LayerNorm(config.dims[stage]))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W) float32`` to the maps of ``stages_out``, ``(B, C, h, w)`` each, finest first."""
        x = self.patch_embed(images)
        maps = []
        for stage, layer in enumerate(self.layers):
            out, x = layer(x)
            if stage in self.config.stages_out:
                maps.append(self.get_submodule(f"norm{stage}")(out).permute(0, 3, 1, 2))
        return maps


def region_mask(height: int, width: int, window: int, like: Tensor) -> Tensor:
    """``(windows, N, N)``, N = window ** 2: 0 inside one region of the shifted grid, -100 across regions."""
    rows, columns = (_regions(side, window, like.device) for side in (height, width))
    region = partition((3 * rows[:, None] + columns[None, :])[None, :, :, None], window)
    region = region.reshape(-1, window * window)  # (windows, N)
    return (region[:, :, None] != region[:, None, :]).to(like.dtype) * NOT_SAME_REGION


def _regions(side: int, window: int, device: torch.device) -> Tensor:
    """``(side,) int64``: 0 before the last window, 1 in it, 2 in the part that the shift brought there."""
    along = torch.arange(side, device=device)
    return (along >= side - window).long() + (along >= side - window // 2).long()


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """``(B, H, W, C)`` with zeros below and to the right."""
    return F.pad(x, (0, 0, 0, columns, 0, rows))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
