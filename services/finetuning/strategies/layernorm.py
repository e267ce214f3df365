"""Norm tuning: only scale and shift of the normalisation layers are trained, layer norms or batch norms.

A convolutional network has batch norms where a transformer has layer norms; their running statistics stay.
"""

from __future__ import annotations

from torch import nn

from models.encoders import ImageEncoder
from services.finetuning.strategies.base import Options, Strategy, unsuitable

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def _apply(encoder: ImageEncoder, options: Options) -> None:
    own = [
        parameter
        for module in encoder.modules()
        if isinstance(module, NORMS)
        for parameter in module.parameters(recurse=False)
    ]
    if not own:
        raise unsuitable("layernorm", encoder, "it has no normalisation layer with a scale and a shift")
    for parameter in own:
        parameter.requires_grad_(True)


STRATEGY = Strategy("Only scale and shift of the norms are trained", _apply, options={}, encoder_rate=1e-2)
