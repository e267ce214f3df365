"""The pocket UniCL: a small FocalNet for pictures and a head on frozen MiniLM for texts, into one unit sphere."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.focalnet import FocalNet, FocalNetConfig

DIM = 256
SIZE = 48
"""Side of the pictures that the finished network is measured and served at."""
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
IMAGE = FocalNetConfig(
    embed_dim=48, depths=(1, 2, 2), focal_levels=(2, 2, 1), focal_windows=(3, 3, 3),
    conv_embed=True, layerscale=True, layerscale_init=0.5, num_classes=DIM,
)  # fmt: skip
HIDDEN = 512


class TextHead(nn.Module):
    """MiniLM embedding ``(N, 384)``, whitened, to ``(N, DIM)`` of unit length: a linear map plus an MLP."""

    mean: Tensor
    whiten: Tensor

    def __init__(self, mean: Tensor, whiten: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whiten", whiten)
        width = whiten.shape[1]
        self.linear = nn.Linear(width, DIM)
        self.mlp = nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(HIDDEN, DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) @ self.whiten
        return F.normalize((self.linear(x) + self.mlp(x)).float(), dim=-1)


class PocketUniCL(nn.Module):
    """Image tower, text head and temperature (its logarithm)."""

    def __init__(self, mean: Tensor, whiten: Tensor) -> None:
        super().__init__()
        self.image = FocalNet(IMAGE)
        self.text = TextHead(mean, whiten)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        # Published FocalNets start at 0.02 whatever the width: at 64 channels the product of query, gate and context
        # is then so small that the first thousands of steps learn little.
        for module in self.image.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)

    def embed_images(self, pictures: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in 0..1 to unit rows ``(B, DIM)``."""
        return F.normalize(self.image(normalised(pictures)).float(), dim=-1)


def normalised(pictures: Tensor) -> Tensor:
    """``(B, 3, H, W)`` in 0..1 as the tower takes them."""
    return (pictures - MEAN[:, None, None]) / STD[:, None, None]


def whitening(embeddings: Tensor, shrink: float = 0.3) -> tuple[Tensor, Tensor]:
    """Mean and PCA whitening ``(384, 384)`` of text embeddings; ``shrink`` of the mean variance is added to each."""
    mean = embeddings.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((embeddings - mean).T))
    values = (1 - shrink) * values + shrink * values.mean()
    return mean, (vectors * values.clamp(min=1e-8).rsqrt()).contiguous()


def load(weights: Path) -> PocketUniCL:
    """The network of a file that training wrote, for measuring and export."""
    tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
    model = PocketUniCL(tensors["text.mean"], tensors["text.whiten"])
    model.load_state_dict(tensors)
    return model.eval()
