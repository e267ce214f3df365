"""EfficientNet-Lite over whole photos of any size: the map of features that boxes are cut out of.

The classifiers pad as TensorFlow's ``SAME``, which shifts the map by half a stride where sides are even. One pixel more
on the right and below makes them ``32 k + 1``: every convolution then pads evenly, and cell ``i`` is centred on pixel
``32 i``.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.efficientnet_lite import EfficientNetLite, SamePadConv2d

STRIDE = 32


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
                    child.in_channels, child.out_channels, kernel, child.stride[0], kernel // 2,
                    groups=child.groups, bias=False,
                )  # fmt: skip
                even.weight = child.weight
                setattr(module, name, even)
