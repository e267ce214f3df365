"""LoRA (arXiv 2106.09685): updates of low rank for queries and values, merged into the weights on export.

Own code: peft would bring transformers and accelerate for one of eight strategies, and it adapts a packed projection
as a whole, while the publication compared with (arXiv 2203.16329) adapts queries and values but not keys.
"""

from __future__ import annotations

from models.encoders import ImageEncoder
from models.kadaptation.deltas import LORA_RANK, LowRankDelta
from services.finetuning.strategies.base import Options, Strategy, add_updates, parts_of, unsuitable
from services.finetuning.strategies.sites import Projection

ALPHA = 128.0


def _apply(encoder: ImageEncoder, options: Options) -> None:
    """Rank-``r`` updates scaled by ``alpha / r``; convolutional networks get them in their 1 x 1 convolutions."""
    sites = parts_of("lora", encoder, options["parts"].split(), ("expand", "project"))
    rank = int(options["rank"])
    if rank < 1 or rank > min(min(site.shape) for site in sites):
        most = min(min(site.shape) for site in sites)
        raise unsuitable("lora", encoder, f"rank {rank} is not between 1 and {most}", "Choose another rank.")

    def make(site: Projection) -> LowRankDelta:
        rows, columns = site.shape
        return LowRankDelta(columns, rows, rank, float(options["alpha"]) / rank)

    add_updates(sites, make)


STRATEGY = Strategy(
    "Low-rank updates of weights",
    _apply,
    encoder_rate=1e-1,
    options={"rank": LORA_RANK, "alpha": ALPHA, "parts": "query value"},
)
