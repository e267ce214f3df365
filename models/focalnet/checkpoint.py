"""FocalNet's published files under any of their three namings: the authors' releases, timm's port, Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from models.backbones.focalnet import FocalNet, FocalNetConfig, FocalNetPyramid
from models.focalnet.variants import DETECTION_VARIANTS, VARIANTS
from models.intake.checkpoint import CheckpointError, Shapes, State, fitting, load, read_state, weight_shapes

Builder = Callable[[], torch.nn.Module]
Scheme = Literal["release", "timm", "huggingface"]

NEVER_TRAINED = 850
"""The one ImageNet-1K class that ImageNet-22K lacks: its output of a 22K head means nothing."""

_HUGGINGFACE = (
    (r"^focalnet\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.stages\.(\d+)\.layers\.", r"layers.\1.blocks."),
    (r"^encoder\.stages\.(\d+)\.downsample\.projection\.", r"layers.\1.downsample.proj."),
    (r"^encoder\.stages\.(\d+)\.downsample\.norm\.", r"layers.\1.downsample.norm."),
    (r"\.modulation\.projection_in\.", ".modulation.f."),
    (r"\.modulation\.projection_context\.", ".modulation.h."),
    (r"\.modulation\.projection_out\.", ".modulation.proj."),
    (r"\.modulation\.layernorm\.", ".modulation.ln."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
_TO_HUGGINGFACE = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^layers\.(\d+)\.blocks\.", r"encoder.stages.\1.layers."),
    (r"^layers\.(\d+)\.downsample\.proj\.", r"encoder.stages.\1.downsample.projection."),
    (r"^layers\.(\d+)\.downsample\.norm\.", r"encoder.stages.\1.downsample.norm."),
    (r"\.modulation\.f\.", ".modulation.projection_in."),
    (r"\.modulation\.h\.", ".modulation.projection_context."),
    (r"\.modulation\.proj\.", ".modulation.projection_out."),
    (r"\.modulation\.ln\.", ".modulation.layernorm."),
    (r"^norm\.", "layernorm."),
    (r"^head\.", "classifier."),
)
_TIMM = (
    (r"^stem\.", "patch_embed."),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.norm([12])_post\.", r".norm\1."),
    (r"\.modulation\.norm\.", ".modulation.ln."),
    (r"^head\.fc\.", "head."),
)


class Canonical(NamedTuple):
    """A state under the authors' names, and what its own naming said about where the norms stand (or nothing)."""

    state: State
    scheme: Scheme
    postln: bool | None


def canonical(state: State) -> Canonical:
    """Any of the three namings to the authors' names; raises :class:`CheckpointError` when two names become one."""
    if any(name.startswith("stem.") for name in state):
        return Canonical(_from_timm(state), "timm", any("norm1_post" in name for name in state))
    if any("embeddings.patch_embeddings." in name for name in state):
        return Canonical(_renamed(state, _HUGGINGFACE), "huggingface", None)
    return Canonical(state, "release", None)


def to_huggingface(state: State) -> State:
    """The authors' names to those of ``transformers``' ``FocalNetForImageClassification``: the way back."""
    return {_to_huggingface(name): tensor for name, tensor in state.items()}


def _to_huggingface(name: str) -> str:
    for pattern, replacement in _TO_HUGGINGFACE:
        name = re.sub(pattern, replacement, name)
    return name if name.startswith("classifier.") else f"focalnet.{name}"


def read(path: Path, config: FocalNetConfig) -> FocalNet:
    """The classifier of a published file, in eval mode.

    ``config`` must be the file's own: its flags ``postln``, ``normalize_modulator``, ``stem_padding`` and
    ``pad_input`` cannot be told from the weights. Raises :class:`CheckpointError` (or one of its kinds) or ``OSError``.
    """
    found = canonical(read_state(path))
    if found.postln is not None and found.postln != config.postln:
        where = "after" if found.postln else "before"
        raise CheckpointError(
            f"{path.name} names its norms as standing {where} the branches",
            f"Ask for a configuration with postln={found.postln}.",
        )

    with torch.device("meta"):
        network = FocalNet(config)

    load(network, found.state, fits)
    return network.eval()


def first_thousand(network: FocalNet) -> FocalNet:
    """The same network with a 22K head cut to its first thousand outputs, which stand in ImageNet-1K order.

    Output 850 was never trained and is set so low that it never wins. Raises :class:`CheckpointError` when the head
    is no 22K head.
    """
    head = network.head
    if head is None or head.out_features <= 1000:
        raise CheckpointError(
            f"a head of {0 if head is None else head.out_features} outputs is no ImageNet-22K head",
            "Only the large, xlarge and huge releases have one.",
        )

    narrow = torch.nn.Linear(head.in_features, 1000)
    with torch.no_grad():
        narrow.weight.copy_(head.weight[:1000])
        narrow.bias.copy_(head.bias[:1000])
        narrow.weight[NEVER_TRAINED] = 0.0
        narrow.bias[NEVER_TRAINED] = -1e4

    network.head = narrow
    return network


def published_as(state: State) -> dict[str, str]:
    """What a state under any of the namings is, in words, and the variant of each. Raises :class:`CheckpointError`."""
    variants = {f"{name} with {config.num_classes} classes": name for name, config in VARIANTS.items()}
    return {fit: variants.get(fit, fit) for fit in fits(weight_shapes(canonical(state).state))}


def fits(shapes: Shapes) -> list[str]:
    """The published variants whose weights have these names and shapes, whatever the number of classes."""
    head = shapes.get("head.weight")
    classes = head[0] if head else 0
    builders = {name: _builder(config, classes) for name, config in VARIANTS.items()}
    found = fitting(shapes, builders)
    found += fitting(shapes, {name: _pyramid_builder(config) for name, config in DETECTION_VARIANTS.items()})
    return [f"{name} with {classes} classes" if classes and name in VARIANTS else name for name in found]


def _builder(config: FocalNetConfig, classes: int) -> Builder:
    return lambda: FocalNet(replace(config, num_classes=classes))


def _pyramid_builder(config: FocalNetConfig) -> Builder:
    return lambda: FocalNetPyramid(config)


def _from_timm(state: State) -> State:
    """timm keeps 1 x 1 convolutions where the release has linear layers, and puts a downsample at a stage's start."""
    earlier = {
        re.sub(r"^layers\.(\d+)\.downsample\.", lambda stage: f"layers.{int(stage[1]) - 1}.downsample.", name): tensor
        for name, tensor in state.items()
    }
    renamed = _renamed(earlier, _TIMM)
    linear = re.compile(r"\.(modulation\.f|modulation\.proj|mlp\.fc1|mlp\.fc2)\.weight$")
    return {
        name: tensor.flatten(1) if linear.search(name) and tensor.ndim == 4 else tensor
        for name, tensor in renamed.items()
    }


def _renamed(state: State, rules: tuple[tuple[str, str], ...]) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise CheckpointError(f"two weights of the checkpoint would become {new}: it mixes namings")
        renamed[new] = tensor
    return renamed
