"""Image encoders that can be trained further: any backbone as pictures to features, and its files beside an ONNX file.

``model.onnx`` is what serves; nothing can be trained in it. A version folder that also holds ``encoder.json`` (which
network) and ``encoder.safetensors`` (its weights) can be adapted. :class:`ImageEncoder` computes what the ONNX file
gives as its embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, Stage
from models.backbones.focalnet import FocalNet, FocalNetConfig, modulation_map
from models.backbones.resnet import ResNet, ResNetConfig
from models.backbones.swin import Swin, SwinConfig
from models.backbones.vit import Vit, VitConfig
from models.errors import ModelError

DESCRIPTION = "encoder.json"
WEIGHTS = "encoder.safetensors"

Network = EfficientNetLite | FocalNet | ResNet | Swin | Vit
Backbone = EfficientNetLiteConfig | FocalNetConfig | SwinConfig | ResNetConfig | VitConfig

ARCHITECTURES: dict[str, tuple[type[Backbone], Callable[[Any], Network]]] = {
    "efficientnet-lite": (EfficientNetLiteConfig, EfficientNetLite),
    "focalnet": (FocalNetConfig, FocalNet),
    "resnet": (ResNetConfig, ResNet),
    "swin": (SwinConfig, Swin),
    "vit": (VitConfig, Vit),
}
"""Every backbone by the name it has in ``encoder.json``."""


class EncoderError(ModelError):
    """Files that describe no encoder, or weights that are not those of the described one."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """A backbone and what stands behind it.

    ``projection`` is the width of a matrix that pooled features are multiplied by (0: none), as in UniCL; ``unit``
    brings them to unit length. A backbone with ``num_classes`` gives its head's outputs as features; leave it 0 for
    the pooled ones.
    """

    backbone: Backbone
    projection: int = 0
    unit: bool = False

    @property
    def architecture(self) -> str:
        return next(name for name, (kind, _) in ARCHITECTURES.items() if isinstance(self.backbone, kind))


class ImageEncoder(nn.Module):
    """``(B, 3, H, W) float32`` to features ``(B, dim_out)``."""

    projection: nn.Parameter | None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        _, build = ARCHITECTURES[config.architecture]
        self.network = build(config.backbone)
        if isinstance(config.backbone, EfficientNetLiteConfig):  # its features come before the classifier
            width = config.backbone.head
            self.network.register_module("_fc", nn.Identity())
        else:
            assert not isinstance(self.network, EfficientNetLite)
            width = config.backbone.num_classes or self.network.dim_out

        if config.projection:
            self.projection = nn.Parameter(torch.empty(width, config.projection))
            nn.init.trunc_normal_(self.projection, std=0.02)
        else:
            self.projection = None

        self.dim_out: int = config.projection or width

    @property
    def architecture(self) -> str:
        """The backbone's name in :data:`ARCHITECTURES`."""
        return self.config.architecture

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.network, EfficientNetLite):
            return self._projected(self.network.features(images))
        if self.config.backbone.num_classes:
            return self._projected(self.network(images))
        return self._projected(self.network.pooled(images))

    def looking(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and of a FocalNet the map ``(B, h, w)`` of where it looked. Raises ``TypeError`` for others."""
        if not isinstance(self.network, FocalNet):
            raise TypeError(f"a {self.architecture} has no modulation map")
        found = self.network.features(images)
        pooled = found.tokens.mean(dim=(1, 2))
        features = self.network.classify(pooled) if self.config.backbone.num_classes else pooled
        return self._projected(features), modulation_map(found.modulator)

    def _projected(self, features: Tensor) -> Tensor:
        if self.projection is not None:
            features = features @ self.projection
        return F.normalize(features, dim=-1) if self.config.unit else features


def encoder_of(
    network: Network, projection: Tensor | None = None, *, unit: bool = False, with_head: bool = False
) -> ImageEncoder:
    """An :class:`ImageEncoder` that shares the weights of a trained ``network``.

    ``with_head``: its classification head is part of the encoder; otherwise it is left out.
    """
    config = network.config
    if not isinstance(config, EfficientNetLiteConfig | VitConfig) and not with_head:
        config = replace(config, num_classes=0)

    with torch.device("meta"):
        encoder = ImageEncoder(EncoderConfig(config, 0 if projection is None else projection.shape[1], unit))

    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    if projection is not None:
        weights["projection"] = projection.detach()

    wanted = encoder.state_dict()
    encoder.load_state_dict({name: weights[name] for name in wanted}, strict=True, assign=True)
    return encoder.eval()


def encoder_files(encoder: ImageEncoder, folder: Path) -> dict[str, Path | bytes]:
    """Return what to put into a version folder beside ``model.onnx``; the weights are written to ``folder`` first."""
    content = {
        "architecture": encoder.architecture,
        "config": asdict(encoder.config.backbone),
        "projection": encoder.config.projection,
        "unit": encoder.config.unit,
    }
    weights = folder / WEIGHTS
    save_file({name: tensor.detach().contiguous() for name, tensor in encoder.state_dict().items()}, weights)
    return {DESCRIPTION: json.dumps(content, indent=1).encode(), WEIGHTS: weights}


def read_encoder(folder: Path) -> ImageEncoder:
    """The encoder of a folder with both files, in eval mode. Raises :class:`EncoderError` or ``OSError``."""
    try:
        config = read_config(json.loads((folder / DESCRIPTION).read_bytes()))
        with torch.device("meta"):
            encoder = ImageEncoder(config)
        encoder.load_state_dict(load_file(folder / WEIGHTS), strict=True, assign=True)
    except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise EncoderError(
            f"{folder / DESCRIPTION} and {WEIGHTS} beside it are no encoder: {error}", "pull or convert the model again"
        ) from error
    return encoder.eval()


def read_config(content: dict[str, Any]) -> EncoderConfig:
    """The inverse of what :func:`encoder_files` writes; raises ``ValueError``, ``TypeError`` or ``KeyError``."""
    name = content["architecture"]
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is none of {', '.join(ARCHITECTURES)}")
    kind, _ = ARCHITECTURES[name]
    known = {field.name for field in fields(kind)}
    strangers = set(content["config"]) - known
    if strangers:
        raise ValueError(f"a {name} has no {', '.join(sorted(strangers))}")
    values = {field: _value(value) for field, value in content["config"].items()}
    return EncoderConfig(kind(**values), int(content.get("projection", 0)), bool(content.get("unit", False)))


def _value(value: Any) -> Any:
    """Lists as the tuples that configurations hold; an EfficientNet's stages are objects."""
    if isinstance(value, list):
        return tuple(Stage(**item) if isinstance(item, dict) else item for item in value)
    return value
