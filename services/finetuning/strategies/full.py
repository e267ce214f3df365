"""Full fine-tuning: every weight of the encoder is trained, batch statistics excepted."""

from __future__ import annotations

from models.encoders import ImageEncoder
from services.finetuning.strategies.base import Options, Strategy


def _apply(encoder: ImageEncoder, options: Options) -> None:
    encoder.requires_grad_(True)


STRATEGY = Strategy("Every weight of the encoder is trained", _apply, options={}, encoder_rate=1e-1)
