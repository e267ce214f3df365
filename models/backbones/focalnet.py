"""FocalNet, Focal Modulation Networks (arXiv 2203.11926): the classifier and the four-map backbone for detection.

Parameter names are those of the published checkpoints, so that they load strictly. Tensors inside are channels-last,
``(B, H, W, C)``. The network keeps nothing of a call on its modules, so one instance may serve many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.drop_path import DropPath, linear_rates
from models.backbones.mlp import Mlp

FOCAL_FACTOR = 2
"""Growth of the kernel from one focal level to the next (paper, table 1); no release uses another value."""


@dataclass(frozen=True, slots=True)
class FocalNetConfig:
    """One FocalNet. Tuples have one entry a stage; kernels of a stage are ``window, window + 2, ...``, one a level.

    ``patch_norm`` is the norm after the stem, which every release has.

    Four fields change the answer but no parameter's name or shape, so a checkpoint cannot tell them:
    ``postln`` (norm after the branch, not before), ``normalize_modulator`` (context divided by levels + 1),
    ``stem_padding`` (2 in the classifiers, 3 in the detection backbones, with ``conv_embed``) and ``pad_input``
    (pad right and bottom to whole patches, as detection does; the classifiers drop the rest).
    """

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    focal_levels: tuple[int, ...] = (2, 2, 2, 2)
    focal_windows: tuple[int, ...] = (3, 3, 3, 3)
    patch_size: int = 4
    in_channels: int = 3
    mlp_ratio: float = 4.0
    conv_embed: bool = False
    patch_norm: bool = True
    layerscale: bool = False
    layerscale_init: float = 1e-4
    postln: bool = False
    postln_in_modulation: bool = False
    normalize_modulator: bool = False
    stem_padding: int = 2
    pad_input: bool = False
    drop_path: float = 0.0
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.focal_levels) == len(self.focal_windows):
            raise ValueError("depths, focal_levels and focal_windows need one entry for every stage")

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of every stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


class Features(NamedTuple):
    """Of the last stage: ``tokens (B, h, w, C)``, normalised, and its last block's ``modulator (B, C, h, w)``."""

    tokens: Tensor
    modulator: Tensor


class FocalModulation(nn.Module):
    """Focal modulation (paper, equations 4-7): each query is multiplied by a gated summary of its surroundings."""

    def __init__(self, dim: int, levels: int, window: int, *, ln: bool, normalize: bool) -> None:
        super().__init__()
        self.levels = levels
        self.normalize = normalize
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, kernel_size=1)
        self.focal_layers = nn.ModuleList()
        for level in range(levels):
            kernel = window + FOCAL_FACTOR * level
            depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
            self.focal_layers.append(nn.Sequential(depthwise, nn.GELU()))
        self.ln = nn.LayerNorm(dim) if ln else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to the modulated ``(B, H, W, C)`` and the modulator ``(B, C, H, W)``."""
        dim = x.shape[-1]
        projected = self.f(x).permute(0, 3, 1, 2).contiguous()  # (B, 2C + L + 1, H, W)
        query, context, gates = projected.split((dim, dim, self.levels + 1), dim=1)
        gathered: Tensor | None = None
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)  # (B, C, H, W): each level sees further than the one before
            gated = context * gates[:, level : level + 1]
            gathered = gated if gathered is None else gathered + gated

        everywhere = F.gelu(context.mean(dim=(2, 3), keepdim=True)) * gates[:, self.levels :]  # (B, C, H, W)
        gathered = everywhere if gathered is None else gathered + everywhere
        if self.normalize:
            gathered = gathered / (self.levels + 1)

        modulator = self.h(gathered)  # (B, C, H, W)
        modulated = (query * modulator).permute(0, 2, 3, 1)  # (B, H, W, C)
        if self.ln is not None:
            modulated = self.ln(modulated)

        return self.proj(modulated), modulator


class FocalNetBlock(nn.Module):
    """Modulation and MLP, each on a residual branch with its norm before (default) or after (``postln``)."""

    def __init__(self, dim: int, levels: int, window: int, drop_path: float, config: FocalNetConfig) -> None:
        super().__init__()
        self.postln = config.postln
        self.norm1 = nn.LayerNorm(dim)
        self.modulation = FocalModulation(
            dim, levels, window, ln=config.postln_in_modulation, normalize=config.normalize_modulator
        )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.gamma_1 = nn.Parameter(torch.full((dim,), config.layerscale_init)) if config.layerscale else None
        self.gamma_2 = nn.Parameter(torch.full((dim,), config.layerscale_init)) if config.layerscale else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, H, W, C)`` to ``(B, H, W, C)`` and the block's modulator ``(B, C, H, W)``."""
        if self.postln:
            branch, modulator = self.modulation(x)
            branch = self.norm1(branch)
        else:
            branch, modulator = self.modulation(self.norm1(x))
        x = x + self.drop_path(branch if self.gamma_1 is None else self.gamma_1 * branch)
        branch = self.norm2(self.mlp(x)) if self.postln else self.mlp(self.norm2(x))
        x = x + self.drop_path(branch if self.gamma_2 is None else self.gamma_2 * branch)
        return x, modulator


class PatchEmbed(nn.Module):
    """Convolution that shrinks the grid, then a norm: the stem, and the step from one stage to the next."""

    def __init__(self, in_dim: int, out_dim: int, patch: int, *, stem: bool, config: FocalNetConfig) -> None:
        super().__init__()
        self.pad_to = patch if config.pad_input else 1
        if config.conv_embed:
            kernel, stride, padding = (7, 4, config.stem_padding) if stem else (3, 2, 1)
        else:
            kernel, stride, padding = patch, patch, 0
        self.proj = nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=padding)
        self.norm = nn.Identity() if stem and not config.patch_norm else nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, H', W', C')``."""
        if self.pad_to > 1:
            x = F.pad(x, (0, -x.shape[3] % self.pad_to, 0, -x.shape[2] % self.pad_to))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Blocks at one resolution; ``downsample`` belongs to the end of the stage, as in the published names."""

    def __init__(self, stage: int, rates: list[float], config: FocalNetConfig) -> None:
        super().__init__()
        dims = config.dims
        self.blocks = nn.ModuleList(
            FocalNetBlock(dims[stage], config.focal_levels[stage], config.focal_windows[stage], rate, config)
            for rate in rates
        )
        last = stage == len(dims) - 1
        self.downsample = None if last else PatchEmbed(dims[stage], dims[stage + 1], 2, stem=False, config=config)


class _Trunk(nn.Module):
    """Stem and stages: what the classifier and the detection backbone share."""

    def __init__(self, config: FocalNetConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.in_channels, config.embed_dim, config.patch_size, stem=True, config=config)
        rates = linear_rates(config.drop_path, config.depths)
        self.layers = nn.ModuleList(Stage(stage, rates[stage], config) for stage in range(len(config.depths)))

    def stages(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """``(B, 3, H, W)`` to each stage's ``(B, h, w, C)``, before its downsample, and its last modulator."""
        x = self.patch_embed(images)  # (B, H / 4, W / 4, C)
        outputs = []
        for stage in self.layers:
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                x, modulator = block(x)
            outputs.append((x, modulator))
            if stage.downsample is not None:
                x = stage.downsample(x.permute(0, 3, 1, 2))
        return outputs


class FocalNet(_Trunk):
    """The classifier; with ``num_classes`` 0 an image tower, whose ``pooled`` features a projection may take."""

    def __init__(self, config: FocalNetConfig) -> None:
        super().__init__(config)
        self.dim_out = config.dims[-1]
        self.norm = nn.LayerNorm(self.dim_out)
        self.head = nn.Linear(self.dim_out, config.num_classes) if config.num_classes else None
        self.apply(_initialise)

    def features(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` float to :class:`Features`."""
        x, modulator = self.stages(images)[-1]
        return Features(self.norm(x), modulator)

    def pooled(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to the mean of the tokens, ``(B, C)``."""
        return self.features(images).tokens.mean(dim=(1, 2))

    def classify(self, pooled: Tensor) -> Tensor:
        """``(B, C)`` to logits ``(B, num_classes)``; raises ``RuntimeError`` on a network without a head."""
        if self.head is None:
            raise RuntimeError("this FocalNet was built with num_classes=0 and has no head")
        return self.head(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to logits ``(B, num_classes)``."""
        return self.classify(self.pooled(images))


class FocalNetPyramid(_Trunk):
    """The detection backbone: a map of each of ``stages_out``, strides 4 to 32, through its own norm (``norm0`` ...).

    ``None`` gives the maps of all stages.
    """

    def __init__(self, config: FocalNetConfig, stages_out: Sequence[int] | None = None) -> None:
        super().__init__(config)
        self.stages_out = tuple(range(len(config.dims)) if stages_out is None else stages_out)
        for stage in self.stages_out:
            self.add_module(f"norm{stage}", nn.LayerNorm(config.dims[stage]))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C_i, H / s_i, W / s_i)`` for each of ``stages_out``."""
        stages = self.stages(images)
        return [self.get_submodule(f"norm{stage}")(stages[stage][0]).permute(0, 3, 1, 2) for stage in self.stages_out]


def modulation_map(modulator: Tensor) -> Tensor:
    """``(B, C, h, w)`` modulator to ``(B, h, w)``: its L2 norm at every place, where the network looks (section 5)."""
    return torch.linalg.vector_norm(modulator, dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
