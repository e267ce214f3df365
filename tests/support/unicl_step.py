"""One UniCL step on a fixed batch, alone or as one process of several: what both must agree on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from models.backbones.focalnet import FocalNetConfig
from models.text.clip_transformer import ClipTextConfig
from models.unicl.loss import unicl_loss
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.train import Recipe
from tests.support.unicl_run import run

CONFIG = UniCLConfig(
    FocalNetConfig(embed_dim=8, depths=(1,), focal_levels=(2,), focal_windows=(3,), num_classes=0),
    ClipTextConfig(vocab_size=40, context_length=8, width=16, heads=2, layers=1),
    dim=12,
)
LABELS = [0, 4, 2, 0, 4, 0, 2, 4]
"""Captions in both halves, and labels that agree across them."""


def model() -> UniCL:
    torch.manual_seed(0)
    return UniCL(CONFIG)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(len(LABELS), 3, 16, 16, generator=generator)
    ids = torch.randint(1, 40, (len(LABELS), 8), generator=generator)
    return images, ids, torch.tensor(LABELS)


def half_a_step(rank: int) -> dict[str, Tensor]:
    """Loss and gradients of one process of two, each with half of the batch."""
    network = DistributedDataParallel(model())
    images, ids, labels = (tensor.chunk(2)[rank] for tensor in batch())
    loss = unicl_loss(*network(images, ids), labels)
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in network.module.named_parameters()}}


def step_and_run(rank: int, inputs: Path, out: Path, recipe: Recipe) -> dict[str, Tensor]:
    """Both of what several processes must agree on with one, so that they start once: a step, and a whole run.

    Without dropped paths, which every process draws for itself.
    """
    return {**half_a_step(rank), "losses": torch.tensor(run(inputs, out, recipe, drop_path=0.0))}
