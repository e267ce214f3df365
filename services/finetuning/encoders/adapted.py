"""An encoder under a strategy with a head on it: what is trained, what of it is saved, what is exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.encoders import ImageEncoder
from services.finetuning.heads.head import Head
from services.finetuning.strategies.base import Options, checked, merged, strategy


def apply(encoder: ImageEncoder, method: str, options: Options, seed: int = 0) -> ImageEncoder:
    """A copy of ``encoder`` with what ``method`` trains; everything else in it is frozen.

    Raises ``unknown-method``, ``unknown-option`` or ``method-unsuitable``.
    """
    chosen = strategy(method)
    complete = checked(method, chosen, options)
    prepared = copy.deepcopy(encoder).eval()
    prepared.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen.apply(prepared, complete)
    return prepared.eval()  # what was put in is in training mode


def trainable(encoder: nn.Module) -> dict[str, nn.Parameter]:
    """Return what is trained, by name; a parameter that several modules share appears once."""
    return {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def count(encoder: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in trainable(encoder).values())


class Adapted(nn.Module):
    """``(B, 3, S, S) float32`` to logits ``(B, C)``. The encoder's batch statistics never change."""

    def __init__(self, encoder: ImageEncoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def train(self, mode: bool = True) -> Adapted:
        """Only the head has a training mode: few pictures would spoil the statistics of the encoder's norms."""
        self.training = mode
        self.head.train(mode)
        self.encoder.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(pixels))
        return logits


class Served(nn.Module):
    """The exported form: merged where the strategy allows it, the head folded into one linear layer.

    ``looking``: with the modulation map of a FocalNet beside it.
    """

    def __init__(self, encoder: ImageEncoder, weight: Tensor, bias: Tensor, *, looking: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.looking = looking
        self.fc = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.fc.weight.copy_(weight)
            self.fc.bias.copy_(bias)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(B, C)``, features ``(B, D)`` and, where it is ``looking``, the map ``(B, h, w)``."""
        if self.looking:
            features, looked = self.encoder.looking(image)
            return self.fc(features), features, looked
        features = self.encoder(image)
        return self.fc(features), features


def served(model: Adapted, *, looking: bool = False) -> tuple[Served, bool]:
    """The exported form of a trained model on the CPU, and whether the encoder is the plain network again."""
    encoder, plain = merged(model.encoder)
    weight, bias = copy.deepcopy(model.head).cpu().folded()
    return Served(encoder, weight, bias, looking=looking).eval(), plain


def save_adapter(model: Adapted, path: Path, metadata: Mapping[str, str]) -> None:
    """The trained numbers alone, in safetensors: the encoder's under their names, the head folded."""
    tensors = {f"encoder.{name}": value.detach().cpu().contiguous() for name, value in trainable(model.encoder).items()}
    weight, bias = copy.deepcopy(model.head).cpu().folded()
    save_file({**tensors, "head.weight": weight.contiguous(), "head.bias": bias.contiguous()}, path, dict(metadata))


def load_adapter(encoder: ImageEncoder, tensors: Mapping[str, Tensor]) -> None:
    """Put the trained numbers of :func:`save_adapter` into an encoder from :func:`apply`.

    Raises ``ValueError`` when names or shapes are not those of its strategy.
    """
    own = trainable(encoder)
    given = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    if {n: tuple(p.shape) for n, p in own.items()} != {n: tuple(t.shape) for n, t in given.items()}:
        raise ValueError("the adapter is not of this encoder and method: names or shapes differ")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])
