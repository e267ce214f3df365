"""NanoDet-Plus-m (RangiLyu 2021, github.com/RangiLyu/nanodet): ShuffleNetV2, a Ghost PAN and a head with distributions.

Backbone: Ma et al. 2018 (arXiv 1807.11164). Ghost modules: Han et al. 2020 (arXiv 1911.11907). Box sides as
distributions: Li et al. 2020, Generalized Focal Loss (arXiv 2006.04388). Parameters have the published names; batch
normalisation is folded into the convolutions before it, as in the published ncnn files, so that each has a bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1
"""Of every leaky rectifier."""


@dataclass(frozen=True)
class NanoDetConfig:
    """NanoDet-Plus-m. ``bins`` is the size of the distribution of a box side, in strides: 0 to ``bins - 1``."""

    num_classes: int = 80
    stem: int = 24
    widths: tuple[int, ...] = (116, 232, 464)
    repeats: tuple[int, ...] = (4, 8, 4)
    neck: int = 96
    kernel: int = 5
    bins: int = 8
    strides: tuple[int, ...] = (8, 16, 32, 64)


def conv(inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups)


def depthwise(channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return conv(channels, channels, kernel, stride, groups=channels)


def rectifier() -> nn.LeakyReLU:
    return nn.LeakyReLU(SLOPE)


class ShuffleV2Block(nn.Module):
    """Half of the channels pass, half are filtered; at ``stride`` 2 both are. Then the halves are interleaved."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        half = outer // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            # Numbers skip where the published network has its normalisations.
            self.branch1.add_module("0", depthwise(inner, 3, stride))
            self.branch1.add_module("2", conv(inner, half, 1))
            self.branch1.add_module("4", rectifier())
        self.branch2 = nn.Sequential()
        self.branch2.add_module("0", conv(inner if stride > 1 else half, half, 1))
        self.branch2.add_module("2", rectifier())
        self.branch2.add_module("3", depthwise(half, 3, stride))
        self.branch2.add_module("5", conv(half, half, 1))
        self.branch2.add_module("7", rectifier())

    def forward(self, x: Tensor) -> Tensor:
        kept, filtered = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        pair = torch.stack((self.branch1(kept), self.branch2(filtered)), dim=2)  # (B, C / 2, 2, h, w)
        return pair.flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """``(B, 3, H, W)`` to maps at strides 8, 16 and 32."""

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, config.stem, 3, 2))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = len(config.widths)
        inner = config.stem
        for number, (width, repeats) in enumerate(zip(config.widths, config.repeats, strict=True), 2):
            blocks = [ShuffleV2Block(inner, width, 2)]
            blocks += [ShuffleV2Block(width, width, 1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
            inner = width

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(F.leaky_relu(self.conv1(x), SLOPE))
        maps = []
        for number in range(2, 2 + self.stages):
            x = self.get_submodule(f"stage{number}")(x)
            maps.append(x)
        return maps


class ConvModule(nn.Module):
    """A 1 x 1 convolution with its rectifier."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = conv(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), SLOPE)


class DepthwiseConvModule(nn.Module):
    """Depthwise and pointwise, each with a rectifier."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = depthwise(inner, kernel, stride)
        self.pointwise = conv(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.pointwise(F.leaky_relu(self.depthwise(x), SLOPE)), SLOPE)


class GhostModule(nn.Module):
    """Half of the channels by a convolution, the other half by cheap filters over the first."""

    def __init__(self, inner: int, outer: int, rectified: bool) -> None:
        super().__init__()
        self.primary_conv = nn.Sequential(conv(inner, outer // 2, 1))
        self.cheap_operation = nn.Sequential(depthwise(outer // 2, 3))
        if rectified:
            self.primary_conv.append(rectifier())
            self.cheap_operation.append(rectifier())

    def forward(self, x: Tensor) -> Tensor:
        own = self.primary_conv(x)
        return torch.cat((own, self.cheap_operation(own)), dim=1)


class GhostBottleneck(nn.Module):
    """Two ghost modules beside a shortcut that filters."""

    def __init__(self, inner: int, outer: int, kernel: int) -> None:
        super().__init__()
        self.ghost1 = GhostModule(inner, outer, rectified=True)
        self.ghost2 = GhostModule(outer, outer, rectified=False)
        self.shortcut = nn.Sequential()
        self.shortcut.add_module("0", depthwise(inner, kernel))
        self.shortcut.add_module("2", conv(inner, outer, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ghost2(self.ghost1(x)) + self.shortcut(x)
        return out


class GhostBlocks(nn.Module):
    def __init__(self, inner: int, outer: int, kernel: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(GhostBottleneck(inner, outer, kernel))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class GhostPAN(nn.Module):
    """Three maps to four of ``neck`` channels: downwards, upwards, and one more level of stride 64."""

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__()
        width, kernel = config.neck, config.kernel
        self.reduce_layers = nn.ModuleList(ConvModule(inner, width) for inner in config.widths)
        self.top_down_blocks = nn.ModuleList(GhostBlocks(2 * width, width, kernel) for _ in range(2))
        self.downsamples = nn.ModuleList(DepthwiseConvModule(width, width, kernel, 2) for _ in range(2))
        self.bottom_up_blocks = nn.ModuleList(GhostBlocks(2 * width, width, kernel) for _ in range(2))
        self.extra_lvl_in_conv = nn.ModuleList([DepthwiseConvModule(width, width, kernel, 2)])
        self.extra_lvl_out_conv = nn.ModuleList([DepthwiseConvModule(width, width, kernel, 2)])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (reduce(x) for reduce, x in zip(self.reduce_layers, maps, strict=True))
        middle = self.top_down_blocks[0](torch.cat((_doubled(coarse), middle), dim=1))
        fine = self.top_down_blocks[1](torch.cat((_doubled(middle), fine), dim=1))

        outs = [fine]
        for down, block, inner in zip(self.downsamples, self.bottom_up_blocks, (middle, coarse), strict=True):
            outs.append(block(torch.cat((down(outs[-1]), inner), dim=1)))
        outs.append(self.extra_lvl_in_conv[0](coarse) + self.extra_lvl_out_conv[0](outs[-1]))
        return outs


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class NanoDetPlusHead(nn.Module):
    """What each cell sees ``(B, neck, h, w)``, and from that its class logits and box distributions."""

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__()
        width = config.neck
        self.cls_convs = nn.ModuleList(
            nn.Sequential(*(DepthwiseConvModule(width, width, config.kernel) for _ in range(2))) for _ in config.strides
        )
        outputs = config.num_classes + 4 * config.bins
        self.gfl_cls = nn.ModuleList(conv(width, outputs, 1) for _ in config.strides)

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found = []
        for x, convs, last in zip(maps, self.cls_convs, self.gfl_cls, strict=True):
            x = convs(x)
            found.append((x, last(x)))
        return found


class NanoDet(nn.Module):
    """Pictures ``(B, 3, H, W)``, blue first, sides multiples of 32, to what :meth:`raw` and :meth:`decoded` give."""

    def __init__(self, config: NanoDetConfig = NanoDetConfig()) -> None:
        super().__init__()
        self.config = config
        self.backbone = ShuffleNetV2(config)
        self.fpn = GhostPAN(config)
        self.head = NanoDetPlusHead(config)

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features ``(B, neck, h, w)`` and outputs ``(B, num_classes + 4 bins, h, w)`` of each stride."""
        found: list[tuple[Tensor, Tensor]] = self.head(self.fpn(self.backbone(images)))
        return found

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All N cells, finest first: features ``(B, N, neck)``, class logits ``(B, N, num_classes)``, bins
        ``(B, N, 4, bins)``, and the cells ``(N, 3)``: x, y, stride in pixels."""
        levels = self.levels(images)
        features = torch.cat([seen.flatten(2) for seen, _ in levels], dim=2).transpose(1, 2)
        outputs = torch.cat([out.flatten(2) for _, out in levels], dim=2).transpose(1, 2)
        cells = torch.cat([grid(seen, stride) for (seen, _), stride in zip(levels, self.config.strides, strict=True)])
        logits, bins = outputs.tensor_split((self.config.num_classes,), dim=2)
        return features, logits, bins.reshape(*bins.shape[:2], 4, self.config.bins), cells

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``(B, N, 4)`` in pixels, not clipped; class probabilities ``(B, N, num_classes)``; features."""
        features, logits, bins, cells = self.raw(images)
        return decoded(bins, cells), logits.sigmoid(), features


def grid(seen: Tensor, stride: int) -> Tensor:
    """Upper left corners of the cells of ``seen (B, C, h, w)``: ``(h w, 3)`` with x, y and stride. No half cell."""
    height, width = seen.shape[-2:]
    y = torch.arange(height, device=seen.device, dtype=torch.float32) * stride
    x = torch.arange(width, device=seen.device, dtype=torch.float32) * stride
    rows = y[:, None].expand(height, width)
    columns = x[None, :].expand(height, width)
    return torch.stack((columns, rows, torch.full_like(rows, stride)), dim=2).flatten(0, 1)


def decoded(bins: Tensor, cells: Tensor) -> Tensor:
    """Distances to left, top, right, bottom are the expected bin times the stride: boxes ``(B, N, 4)``."""
    values = torch.arange(bins.shape[-1], device=bins.device, dtype=torch.float32)
    distances = (bins.softmax(-1) * values).sum(-1) * cells[:, 2, None]  # (B, N, 4)
    corner = cells[:, :2]
    return torch.cat((corner - distances[..., :2], corner + distances[..., 2:]), dim=-1)
