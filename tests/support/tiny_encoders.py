"""Untrained encoders of every architecture, small enough to train and export in a test."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.efficientnet_lite import EfficientNetLiteConfig, Stage
from models.backbones.focalnet import FocalNetConfig
from models.backbones.resnet import ResNetConfig
from models.backbones.swin import SwinConfig
from models.backbones.vit import VitConfig
from models.catalog.card import Card, Licence, TensorSpec
from models.catalog.geometry import ImagePreprocess
from models.encoders import Backbone, EncoderConfig, ImageEncoder, encoder_files
from models.export.onnx import Axis, Signature, export
from models.repository.reading import read_card
from models.repository.writer import write_version

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


class _Looking(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder.looking(image)


@cache
def _exported(architecture: str, looking: bool) -> tuple[bytes, bytes, bytes]:
    """ONNX file, description and weights of :func:`build`."""
    encoder = build(architecture)
    outputs = ("features", "modulation") if looking else ("features",)
    signature = Signature(("image",), outputs, {"image": {0: Axis("batch", 1, 256)}})
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "model.onnx"
        network = _Looking(encoder) if looking else encoder
        export(network, (torch.randn(3, 3, SIDE, SIDE),), signature, target)
        files = encoder_files(encoder, Path(scratch))
        weights = files["encoder.safetensors"]
        description = files["encoder.json"]
        assert isinstance(weights, Path) and isinstance(description, bytes)
        return target.read_bytes(), description, weights.read_bytes()


def install(root: Path, architecture: str, name: str, *, looking: bool = False) -> Card:
    """Put :func:`build` into a repository as a model that can be trained; ``looking``: with a FocalNet's map."""
    onnx_file, description, weights = _exported(architecture, looking)
    features = TensorSpec(name="features", datatype="FP32", shape=(-1, build(architecture).dim_out))
    looked = TensorSpec(name="modulation", datatype="FP32", shape=(-1, SIDE // 8, SIDE // 8))
    card = Card(
        name=name,
        task="embed-image",
        family="tiny",
        title="Tiny encoder",
        description="Random weights, for tests",
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 3, SIDE, SIDE)),),
        outputs=(features, looked) if looking else (features,),
        image=ImagePreprocess(size=SIDE, resize=SIDE),
        roles={"embedding": "features", **({"modulation": "modulation"} if looking else {})},
        licence=Licence(spdx="CC0-1.0", attribution="Random numbers made by the tests"),
    )
    files: dict[str, Path | bytes] = {
        "model.onnx": onnx_file, "encoder.json": description, "encoder.safetensors": weights,
    }  # fmt: skip
    return read_card(write_version(root, card, files))
