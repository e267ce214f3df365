"""UniCL's published files under any of their three namings, into a network that they fit in full.

===== =============================== ================ ================ ======================================
name  where                           image tower      text tower       projections
===== =============================== ================ ================ ======================================
A     UniCL's releases                image_encoder.   text_encoder.    image_projection, text_projection
B     K-LITE, older files             visual.          text.            vision_projection, text_projection
C     ELEVATER's and K-LITE's toolkit image_encoder.   lang_encoder.    image_projection, lang_projection
===== =============================== ================ ================ ======================================

The reference's own converter from B forgets the text tower; this one takes everything or refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from models.intake.checkpoint import CheckpointError, Shapes, State, fitting, load, read_state, weight_shapes
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.variants import VARIANTS

Scheme = Literal["A", "B", "C"]

_PREFIXES: dict[Scheme, dict[str, str]] = {
    "A": {},
    "B": {"visual.": "image_encoder.", "text.": "text_encoder.", "vision_projection": "image_projection"},
    "C": {"lang_encoder.": "text_encoder.", "lang_projection": "text_projection"},
}


def scheme_of(state: State) -> Scheme:
    """Which naming a state follows; A when nothing says otherwise. Raises :class:`CheckpointError` on a mixture."""
    found: list[Scheme] = [
        scheme
        for scheme, prefixes in _PREFIXES.items()
        if any(name.startswith(prefix) for prefix in prefixes for name in state)
    ]
    if len(found) > 1:
        raise CheckpointError("the checkpoint mixes the names of several UniCL code bases: save it under one naming")
    return found[0] if found else "A"


def canonical(state: State) -> State:
    """Any of the three namings to the releases' own; raises :class:`CheckpointError` on a mixture."""
    prefixes = _PREFIXES[scheme_of(state)]
    renamed: State = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        new = prefixes[prefix] + name.removeprefix(prefix) if prefix else name
        if new in renamed:
            raise CheckpointError(f"two weights of the checkpoint would become {new}: it mixes namings")
        renamed[new] = tensor
    return renamed


def read(path: Path, config: UniCLConfig) -> UniCL:
    """The network of a published file, in eval mode.

    Raises :class:`CheckpointError` (or one of its kinds) or ``OSError``. Whether the text tower is causal cannot be
    told from the weights: ``config`` says it.
    """
    with torch.device("meta"):
        network = UniCL(config)
    load(network, canonical(read_state(path)), fits)
    return network.eval()


def published_as(state: State) -> dict[str, str]:
    """The variants that a state under any of the namings fits. Raises :class:`CheckpointError` on a mixture."""
    return {fit: fit for fit in fits(weight_shapes(canonical(state)))}


def fits(shapes: Shapes) -> list[str]:
    """The published variants whose weights have these names and shapes."""
    return fitting(shapes, {name: _builder(config) for name, config in VARIANTS.items()})


def _builder(config: UniCLConfig) -> Callable[[], UniCL]:
    return lambda: UniCL(config)
