"""Linear probe: the encoder stays as it is, only the head is trained, on features that are computed once."""

from __future__ import annotations

from models.encoders import ImageEncoder
from services.finetuning.strategies.base import Options, Strategy


def _apply(encoder: ImageEncoder, options: Options) -> None:
    """Nothing of the encoder trains."""


STRATEGY = Strategy(
    "Only the head is trained", _apply, options={}, learning_rate=1e-2, weight_decay=1e-4, trains_encoder=False
)
