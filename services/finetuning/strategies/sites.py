"""Where a network can be adapted: its projections, by what they are for, and the branches that an adapter may follow.

Every backbone says here, once, which of its matrices play which part; strategies know no backbone. A backbone of
another kind is added by one function in :data:`READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from models.backbones.efficientnet_lite import InvertedBottleneck
from models.backbones.focalnet import FocalModulation
from models.backbones.mlp import Mlp
from models.backbones.resnet import Bottleneck
from models.backbones.swin import SwinBlock, WindowAttention
from models.backbones.vit import VitAttention, VitBlock

Part = Literal["query", "key", "value", "output", "mlp", "expand", "project"]
"""Transformers have the first five, where a FocalNet's context is its value; convolutional blocks have the last two."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Rows ``start`` to ``stop`` of ``module.<weight>``, seen as a matrix ``(rows, columns)``."""

    module: nn.Module
    weight: str
    bias: str | None
    start: int
    stop: int
    part: Part

    @property
    def shape(self) -> tuple[int, int]:
        tensor: Tensor = getattr(self.module, self.weight)
        return self.stop - self.start, tensor[0].numel()


@dataclass(frozen=True, slots=True)
class Branch:
    """The child ``name`` of ``parent`` ends a residual branch of ``width`` channels, on axis 1 or the last."""

    parent: nn.Module
    name: str
    width: int
    channels_first: bool


def projections(network: nn.Module) -> list[Projection]:
    """Every matrix that may get an additive update, in the order of the network."""
    found: list[Projection] = []
    for module in network.modules():
        for kind, reader in READERS.items():
            if isinstance(module, kind):
                found += reader(module)
    return found


def branches(network: nn.Module) -> list[Branch]:
    """Where adapters go: behind the MLP of a transformer's block, at the end of a convolutional block's branch."""
    found: list[Branch] = []
    for module in network.modules():
        if isinstance(module, VitBlock):
            found.append(Branch(module, "mlp", module.ln_2.normalized_shape[0], False))
        elif isinstance(module, SwinBlock):
            found.append(Branch(module, "mlp", module.norm2.normalized_shape[0], False))
        elif isinstance(module, InvertedBottleneck):
            found.append(Branch(module, "_bn2", module._bn2.num_features, True))
        elif isinstance(module, Bottleneck):
            found.append(Branch(module, "bn3", module.bn3.num_features, True))
        elif any(isinstance(child, FocalModulation) for child in module.children()):
            mlp = module.mlp
            assert isinstance(mlp, Mlp)
            found.append(Branch(module, "mlp", mlp.fc2.out_features, False))

    return found


def _whole(module: nn.Module, part: Part) -> Projection:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return Projection(module, "weight", "bias" if module.bias is not None else None, 0, len(weight), part)


def _packed(module: nn.Module, weight: str, bias: str, width: int) -> Iterator[Projection]:
    parts: tuple[Part, ...] = ("query", "key", "value")
    for index, part in enumerate(parts):
        yield Projection(module, weight, bias, index * width, (index + 1) * width, part)


def _vit(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, VitAttention)
    yield from _packed(module, "in_proj_weight", "in_proj_bias", module.out_proj.in_features)
    yield _whole(module.out_proj, "output")


def _vit_mlp(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, VitBlock)
    yield _whole(module.mlp.c_fc, "mlp")  # type: ignore[arg-type]
    yield _whole(module.mlp.c_proj, "mlp")  # type: ignore[arg-type]


def _swin(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, WindowAttention)
    yield from _packed(module.qkv, "weight", "bias", module.qkv.in_features)
    yield _whole(module.proj, "output")


def _focal(module: nn.Module) -> Iterator[Projection]:
    """Queries and context of focal modulation; the context is what queries get, as values are in attention."""
    assert isinstance(module, FocalModulation)
    width = module.f.in_features
    yield Projection(module.f, "weight", "bias", 0, width, "query")
    yield Projection(module.f, "weight", "bias", width, 2 * width, "value")
    yield _whole(module.proj, "output")


def _mlp(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, Mlp)
    yield _whole(module.fc1, "mlp")
    yield _whole(module.fc2, "mlp")


def _inverted(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, InvertedBottleneck)
    if module.expands:
        yield _whole(module._expand_conv, "expand")
    yield _whole(module._project_conv, "project")


def _bottleneck(module: nn.Module) -> Iterator[Projection]:
    assert isinstance(module, Bottleneck)
    yield _whole(module.conv1, "project")
    yield _whole(module.conv3, "expand")


READERS: dict[type[nn.Module], Callable[[nn.Module], Iterator[Projection]]] = {
    VitAttention: _vit,
    VitBlock: _vit_mlp,
    WindowAttention: _swin,
    FocalModulation: _focal,
    Mlp: _mlp,
    InvertedBottleneck: _inverted,
    Bottleneck: _bottleneck,
}
