"""Swin Transformer (arXiv 2103.14030) for a fixed picture size: the image tower of the published UniCL releases.

Parameter and buffer names are those of the releases. The number of windows comes from height and width alone and the
batch axis is always ``-1``: with the batch size baked in, as the original does, an exported network answers wrongly
and silently at every batch size but the traced one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.backbones.drop_path import DropPath, linear_rates
from models.backbones.mlp import Mlp

NOT_SAME_REGION = -100.0
"""Added to attention logits between places that the cyclic shift brought together but that were never neighbours."""


@dataclass(frozen=True, slots=True)
class SwinConfig:
    """One Swin; tuples have one entry a stage. The grid must divide by the window and by two at every merge.

    ``absolute_positions``, ``qkv_bias``, ``qk_scale`` (``None``: the root of a head's width, inverted) and
    ``patch_norm`` are options of the reference that no release changes; ``qk_scale`` changes no name or shape.
    """

    image_size: int = 224
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    patch_size: int = 4
    in_channels: int = 3
    mlp_ratio: float = 4.0
    absolute_positions: bool = False
    qkv_bias: bool = True
    qk_scale: float | None = None
    patch_norm: bool = True
    drop_path: float = 0.0
    num_classes: int = 0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads):
            raise ValueError("depths and heads need one entry for every stage")
        if self.image_size % self.patch_size:
            raise ValueError(f"image size {self.image_size} is no multiple of the patch size {self.patch_size}")
        for side in self.sides:
            if side > self.window and side % self.window:
                raise ValueError(f"a grid of {side} x {side} cannot be cut into windows of {self.window}")
        if any(side % 2 for side in self.sides[:-1]):
            raise ValueError(f"grids {self.sides} cannot be halved at every stage")

    @property
    def sides(self) -> tuple[int, ...]:
        """Height (and width) of the token grid of every stage."""
        return tuple(self.image_size // self.patch_size // 2**stage for stage in range(len(self.depths)))

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of every stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


def partition(x: Tensor, window: int) -> Tensor:
    """``(B, H, W, C)`` to ``(B, windows, window * window, C)``; only the batch may be symbolic."""
    height, width, dim = x.shape[1:]
    x = x.reshape(-1, height // window, window, width // window, window, dim).transpose(2, 3)
    return x.reshape(-1, (height // window) * (width // window), window * window, dim)


def unpartition(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """``(B, windows, window * window, C)`` back to ``(B, H, W, C)``."""
    dim = windows.shape[-1]
    x = windows.reshape(-1, height // window, width // window, window, window, dim).transpose(2, 3)
    return x.reshape(-1, height, width, dim)


def relative_position_index(window: int) -> Tensor:
    """``(N, N) int64``, N = window ** 2: which row of the bias table belongs to a query and a key."""
    along = torch.arange(window, device="cpu")
    places = torch.stack(torch.meshgrid(along, along, indexing="ij")).flatten(1)  # (2, N)
    offset = places[:, :, None] - places[:, None, :] + window - 1  # (2, N, N), each 0 ... 2 * window - 2
    return offset[0] * (2 * window - 1) + offset[1]


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """``(windows, N, N) float32``: 0 inside one region of the shifted grid, -100 across regions."""
    along = torch.zeros(side, dtype=torch.int64, device="cpu")
    along[-window:-shift] = 1
    along[-shift:] = 2
    region = (3 * along[:, None] + along[None, :]).reshape(1, side, side, 1)
    region = partition(region, window).reshape(-1, window * window)  # (windows, N)
    return (region[:, :, None] != region[:, None, :]).float() * NOT_SAME_REGION


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a learned bias for every relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, heads: int, config: SwinConfig) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5 if config.qk_scale is None else config.qk_scale
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, windows, N, C)`` to the same; ``mask`` is ``(windows, N, N)`` and is added to the logits."""
        count, places, dim = windows.shape[1:]
        qkv = self.qkv(windows).reshape(-1, count, places, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each (B, windows, heads, N, C / heads)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]  # (N * N, heads)
        bias = bias.reshape(places, places, self.heads).permute(2, 0, 1)  # (heads, N, N)
        logits = (query * self.scale) @ key.transpose(-2, -1) + bias
        if mask is not None:
            logits = logits + mask.unsqueeze(1)
        attended = logits.softmax(dim=-1) @ value  # (B, windows, heads, N, C / heads)
        return self.proj(attended.transpose(2, 3).reshape(-1, count, places, dim))


class SwinBlock(nn.Module):
    """Window attention, shifted by half a window in every second block, and an MLP; norms before the branches."""

    attn_mask: Tensor | None

    def __init__(self, dim: int, heads: int, side: int, shifted: bool, drop_path: float, config: SwinConfig) -> None:
        super().__init__()
        self.side = side
        self.window = min(side, config.window)
        self.shift = config.window // 2 if shifted and side > config.window else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, self.window, heads, config)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.register_buffer("attn_mask", shift_mask(side, self.window, self.shift) if self.shift else None)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, side, side, C)`` to the same."""
        branch = self.norm1(x)
        if self.shift:
            branch = torch.roll(branch, (-self.shift, -self.shift), dims=(1, 2))
        branch = self.attn(partition(branch, self.window), self.attn_mask)
        branch = unpartition(branch, self.window, self.side, self.side)
        if self.shift:
            branch = torch.roll(branch, (self.shift, self.shift), dims=(1, 2))
        x = x + self.drop_path(branch)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Four neighbours side by side in the channels, normalised, then a linear layer to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, H / 2, W / 2, 2C)``."""
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]  # (0,0) (1,0) (0,1) (1,1)
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class PatchEmbed(nn.Module):
    """Patches to tokens: one convolution and a norm."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.proj = nn.Conv2d(config.in_channels, config.embed_dim, config.patch_size, stride=config.patch_size)
        self.norm = nn.LayerNorm(config.embed_dim) if config.patch_norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to ``(B, S / patch, S / patch, C)``; raises ``ValueError`` for another size."""
        if images.shape[2] != self.image_size or images.shape[3] != self.image_size:
            raise ValueError(f"this Swin takes {self.image_size} x {self.image_size}, not {tuple(images.shape[2:])}")
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Blocks at one resolution; the merge belongs to the end of the stage, as in the published names."""

    def __init__(self, stage: int, rates: list[float], config: SwinConfig) -> None:
        super().__init__()
        dim, heads, side = config.dims[stage], config.heads[stage], config.sides[stage]
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, side, shifted=index % 2 == 1, drop_path=rate, config=config)
            for index, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(dim) if stage < len(config.depths) - 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, side, side, C)`` through the blocks and the merge."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """The classifier; with ``num_classes`` 0 an image tower, whose ``pooled`` features a projection may take."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.dim_out = config.dims[-1]
        self.patch_embed = PatchEmbed(config)
        self.absolute_pos_embed: nn.Parameter | None = None
        if config.absolute_positions:
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, config.sides[0] ** 2, config.embed_dim))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        rates = linear_rates(config.drop_path, config.depths)
        self.layers = nn.ModuleList(Stage(stage, rates[stage], config) for stage in range(len(config.depths)))
        self.norm = nn.LayerNorm(self.dim_out)
        self.head = nn.Linear(self.dim_out, config.num_classes) if config.num_classes else None
        self.apply(_initialise)

    def stages(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, S, S)`` to each stage's ``(B, h, w, C)`` after its merge."""
        x = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            x = x + self.absolute_pos_embed.unflatten(1, x.shape[1:3])
        outputs = []
        for stage in self.layers:
            x = stage(x)
            outputs.append(x)
        return outputs

    def features(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to the normalised tokens of the last stage, ``(B, h, w, C)``."""
        return self.norm(self.stages(images)[-1])

    def pooled(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to the mean of the tokens, ``(B, C)``."""
        return self.features(images).mean(dim=(1, 2))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` to logits ``(B, num_classes)``; raises ``RuntimeError`` on a network without a head."""
        if self.head is None:
            raise RuntimeError("this Swin was built with num_classes=0 and has no head")
        return self.head(self.pooled(images))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
