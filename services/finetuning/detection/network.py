"""The detector that is trained: NanoDet with classes of a data set, and how its class rows begin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.catalog.card import Card
from models.catalog.catalog import Catalog
from models.nanodet.network import NanoDet, NanoDetConfig
from models.nanodet.weights import published
from services.errors import Kind, Problem
from services.finetuning.kind import DETECTOR

LEAST = 1e-3
"""Added to probabilities before their logarithm."""
NEAR = 0.05
"""Temperature of the likeness of names."""


class Probe(nn.Module):
    """A linear layer on what each cell saw and on the logarithms of its known classes: nothing else is trained."""

    def __init__(self, network: NanoDet, classes: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.config.neck + network.config.num_classes, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, features = self.network(images)
        return boxes, self.head(seen(features, scores)).sigmoid(), features


def seen(features: Tensor, scores: Tensor) -> Tensor:
    """``(..., neck + C)``: what a :class:`Probe` is linear in."""
    return torch.cat((features, (scores + LEAST).log()), dim=-1)


def base_network(folder: Path, card: Card) -> NanoDet:
    """The network of ``nanodet-coco`` or of a detector that was trained in full. Raises ``model-unsuitable``."""
    if (folder / DETECTOR).is_file():
        with safe_open(folder / DETECTOR, framework="pt") as file:
            classes = int((file.metadata() or {}).get("classes", "0"))
        network = NanoDet(NanoDetConfig(num_classes=classes))
        network.load_state_dict(load_file(folder / DETECTOR))
        return network.eval()
    if card.family == "nanodet":
        return published(str(Catalog.read().entry("nanodet-coco").options["weights"]))
    raise Problem(
        Kind.INVALID,
        "model-unsuitable",
        "The model cannot be trained to detect",
        f"{card.name!r} keeps no network that finds boxes and can be trained.",
        pointer="/parameters/model",
        remedy="Use nanodet-coco, or a detector that was fine-tuned with full or lora.",
    )


def save_network(network: NanoDet, path: Path, fit: dict[str, object]) -> None:
    metadata = {"classes": str(network.config.num_classes), "fit": json.dumps(fit)}
    save_file({name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}, path, metadata)


def with_classes(network: NanoDet, mix: Tensor) -> NanoDet:
    """The same network for other classes: each class's row is a mixture ``mix (K, C)`` of the known ones."""
    config = network.config
    fresh = NanoDet(replace(config, num_classes=len(mix)))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for level in range(len(config.strides)):
        for part in ("weight", "bias"):
            name = f"head.gfl_cls.{level}.{part}"
            rows, rest = state[name][: config.num_classes], state[name][config.num_classes :]
            state[name] = torch.cat((torch.einsum("kc,c...->k...", mix, rows), rest))
    fresh.load_state_dict(state)
    return fresh


def likeness(texts: Tensor, known: Tensor) -> Tensor:
    """``(K, C)``: shares of the known classes in new ones, by embeddings ``(K, D)`` and ``(C, D)`` of their names."""
    cosines = F.normalize(texts, dim=1) @ F.normalize(known, dim=1).T
    return (cosines / NEAR).softmax(dim=1)
