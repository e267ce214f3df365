"""UniCL (Unified Contrastive Learning, arXiv 2204.03610): an image tower and a text tower into one unit sphere.

Parameter names are those of the published checkpoints. Both projections multiply from the right and have no bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.backbones.focalnet import FocalNet, FocalNetConfig
from models.backbones.resnet import ResNet, ResNetConfig
from models.backbones.swin import Swin, SwinConfig
from models.text.clip_transformer import ClipTextConfig, ClipTextTransformer, pool

ImageConfig = FocalNetConfig | SwinConfig | ResNetConfig


@dataclass(frozen=True, slots=True)
class UniCLConfig:
    """Two towers and the width of the space they share."""

    image: ImageConfig
    text: ClipTextConfig
    dim: int = 512

    def __post_init__(self) -> None:
        if self.image.num_classes:
            raise ValueError("the image tower of UniCL has no classification head: num_classes must be 0")


def build_image_tower(config: ImageConfig) -> FocalNet | Swin | ResNet:
    """The backbone that a config describes: it has ``dim_out`` and ``pooled``, ``(B, 3, H, W)`` to ``(B, dim_out)``."""
    match config:
        case FocalNetConfig():
            return FocalNet(config)
        case SwinConfig():
            return Swin(config)
        case ResNetConfig():
            return ResNet(config)


class UniCL(nn.Module):
    """Unit image and text features, and the temperature that scales their products (paper, section 3.2)."""

    def __init__(self, config: UniCLConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = build_image_tower(config.image)
        self.text_encoder = ClipTextTransformer(config.text)
        self.image_projection = nn.Parameter(torch.empty(self.image_encoder.dim_out, config.dim))
        self.text_projection = nn.Parameter(torch.empty(self.text_encoder.dim_out, config.dim))
        self.logit_scale = nn.Parameter(torch.ones([]))
        nn.init.trunc_normal_(self.image_projection, std=0.02)
        nn.init.trunc_normal_(self.text_projection, std=0.02)

    def project_image(self, pooled: Tensor) -> Tensor:
        """The tower's ``(B, C)`` to features ``(B, D)``, not yet of unit length."""
        return pooled @ self.image_projection

    def project_text(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64`` to features ``(B, D)``, not yet of unit length."""
        return pool(self.text_encoder(input_ids), input_ids, self.config.text) @ self.text_projection

    def encode_image(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to unit features ``(B, D)``."""
        return unit(self.project_image(self.image_encoder.pooled(images)))

    def encode_text(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64``, each row with an end-of-text token, to unit features ``(B, D)``."""
        return unit(self.project_text(input_ids))

    def forward(self, images: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit image features, unit text features and the temperature, a factor (not its logarithm)."""
        return self.encode_image(images), self.encode_text(input_ids), self.logit_scale.exp()


def unit(x: Tensor) -> Tensor:
    """``(..., D)`` to unit length; a zero vector gives NaN, as in the reference: it is a bug, not a feature."""
    return x / x.norm(dim=-1, keepdim=True)


def class_embeddings(features: Tensor) -> Tensor:
    """Unit text features ``(classes, prompts, D)`` to ``(classes, D)``: mean over prompts, unit length again."""
    return unit(features.mean(dim=1))
