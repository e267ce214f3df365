"""Untrained encoders of every architecture, small enough to train and export in a test."""

from __future__ import annotations

import torch

from models.backbones.efficientnet_lite import EfficientNetLiteConfig, Stage
from models.backbones.focalnet import FocalNetConfig
from models.backbones.resnet import ResNetConfig
from models.backbones.swin import SwinConfig
from models.backbones.vit import VitConfig
from models.encoders import Backbone, EncoderConfig, ImageEncoder

SIDE = 32

BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite": EfficientNetLiteConfig(
        image_size=SIDE, num_classes=4, stem=8, head=16, stages=(Stage(1, 3, 2, 1, 8), Stage(2, 3, 2, 4, 16))
    ),
    "focalnet": FocalNetConfig(
        embed_dim=32, depths=(1, 1), focal_levels=(1, 1), focal_windows=(3, 3), layerscale=True, layerscale_init=0.5,
        num_classes=0,
    ),
    "resnet": ResNetConfig(depths=(1, 1), width=8, num_classes=0),
    "swin": SwinConfig(image_size=SIDE, embed_dim=32, depths=(2,), heads=(2,), window=4),
    "vit": VitConfig(image_size=SIDE, patch_size=8, width=64, layers=2, heads=4, output_dim=32),
}  # fmt: skip


def build(architecture: str, seed: int = 0) -> ImageEncoder:
    """The same weights for the same seed, on the scale of a trained network's."""
    torch.manual_seed(seed)
    return ImageEncoder(EncoderConfig(BACKBONES[architecture])).eval()
