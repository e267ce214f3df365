"""EfficientNet-Lite over whole photos of any size: the map of features that boxes are cut out of.

The classifiers pad as TensorFlow's ``SAME``, which shifts the map by half a stride where sides are even. One pixel more
on the right and below makes them ``32 k + 1``: every convolution then pads evenly, and cell ``i`` is centred on pixel
``32 i``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.efficientnet_lite import EfficientNetLite, SamePadConv2d
from models.efficientnet_lite.export import read
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files, Options

STRIDE = 32
SIGNATURE = Signature(
    ("image",),
    ("map",),
    {"image": {0: Axis("batch", 1, 4096), 2: Axis("height", STRIDE, 4096), 3: Axis("width", STRIDE, 4096)}},
)


class FeatureMap(nn.Module):
    """``(B, 3, H, W)``, sides multiples of 32, to ``(B, H / 32 + 1, W / 32 + 1, F)``: what the classifier pools."""

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        _pad_evenly(network)
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        network = self.network
        x = F.relu6(network._bn0(network._conv_stem(F.pad(image, (0, 1, 0, 1)))))
        for block in network._blocks:
            x = block(x)
        x = F.relu6(network._bn1(network._conv_head(x)))
        return x.permute(0, 2, 3, 1)


def _pad_evenly(network: nn.Module) -> None:
    """Replace every ``SAME`` convolution by one that pads both sides alike."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SamePadConv2d):
                kernel = child.kernel_size[0]
                even = nn.Conv2d(
                    child.in_channels, child.out_channels, kernel, child.stride, kernel // 2,
                    groups=child.groups, bias=False,
                )  # fmt: skip
                even.weight = child.weight
                setattr(module, name, even)


def read_map(options: Options, sources: Mapping[str, Path]) -> FeatureMap:
    """The published network of an entry's options and sources, in eval mode. Raises ``CheckpointError``."""
    return FeatureMap(read(options, sources)).eval()


def build(job: Build) -> Files:
    """``options`` and source as for ``efficientnet-lite``."""
    job.progress("read weights", 0, 3)
    network = read_map(job.options, job.sources)
    job.progress("export", 1, 3)
    generator = torch.Generator().manual_seed(0)
    target = job.scratch / "model.onnx"

    def pictures(batch: int, height: int, width: int) -> list[Tensor]:
        return [torch.randn(batch, 3, height, width, generator=generator)]

    export(network, pictures(2, 96, 128), SIGNATURE, target)
    job.progress("verify", 2, 3)
    verify(network, [pictures(1, 64, 64), pictures(3, 160, 96), pictures(2, 320, 256)], SIGNATURE, target)
    job.progress("verify", 3, 3)
    return {"model.onnx": target}
