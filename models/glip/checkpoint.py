"""GLIP's published files under either of their namings: the authors' releases, and mmdetection's conversions."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.glip.network import Glip
from models.glip.variants import VARIANTS
from models.intake.checkpoint import CheckpointError, Shapes, State, fitting, load, read_state, weight_shapes

UNUSED = (r"rpn\.head\.mlm_head\.", r".*\.embeddings\.position_ids$", r".*\.body\.model\.pooler\.")
"""What some files hold beyond the detector: a loss of their training, and what later versions of BERT's code left."""

_MMDET = (
    (r"^backbone\.patch_embed\.projection\.", "backbone.body.patch_embed.proj."),
    (r"^backbone\.(patch_embed\.norm|norm\d)\.", r"backbone.body.\1."),
    (r"^backbone\.stages\.", "backbone.body.layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    *((rf"^neck\.lateral_convs\.{level}\.conv\.", f"backbone.fpn.fpn_inner{level + 2}.") for level in range(3)),
    *((rf"^neck\.fpn_convs\.{level}\.conv\.", f"backbone.fpn.fpn_layer{level + 2}.") for level in range(3)),
    (r"^neck\.fpn_convs\.3\.conv\.", "backbone.fpn.top_blocks.p6."),
    (r"^neck\.fpn_convs\.4\.conv\.", "backbone.fpn.top_blocks.p7."),
    (r"^language_model\.language_backbone\.", "language_backbone."),
    (r"^bbox_head\.", "rpn."),
)
_CORNERS = (0, 2, 1, 3)
"""In which order mmdetection's merge of patches takes the four neighbours; the same the other way round."""


def read(path: Path, variant: str) -> Glip:
    """The network of a published file, in eval mode.

    Raises :class:`CheckpointError` (or one of its kinds), which names what is missing, or ``OSError``.
    """
    with torch.device("meta"):
        network = Glip(VARIANTS[variant])
    load(network, canonical(read_state(path)), fits)
    return network.eval()


def canonical(state: State) -> State:
    """Either naming to the authors' names, without what no detection needs.

    Raises :class:`CheckpointError` when two names become one.
    """
    if any(name.startswith("bbox_head.") for name in state):
        state = _from_mmdet(state)
    return {name: tensor for name, tensor in state.items() if not any(re.match(unused, name) for unused in UNUSED)}


def published_as(state: State) -> dict[str, str]:
    """What a state under either naming is, in words, and the variant of it. Raises :class:`CheckpointError`."""
    return {variant: variant for variant in fits(weight_shapes(canonical(state)))}


def fits(shapes: Shapes) -> list[str]:
    """The published variants whose weights have these names and shapes."""
    return fitting(shapes, {name: partial(Glip, config) for name, config in VARIANTS.items()})


def _from_mmdet(state: State) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        new = _renamed(name)
        if new in renamed:
            raise CheckpointError(f"two weights of the checkpoint would become {new}: it mixes namings")
        renamed[new] = _neighbours(tensor) if ".downsample." in new else tensor
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in _MMDET:
        name = re.sub(pattern, replacement, name)
    return name


def _neighbours(x: Tensor) -> Tensor:
    """``(..., 4C)`` with the four neighbours of each channel together to one neighbour after the other."""
    apart = torch.unflatten(x, -1, (-1, 4))[..., _CORNERS]  # (..., C, 4)
    return apart.transpose(-1, -2).flatten(-2).contiguous()
