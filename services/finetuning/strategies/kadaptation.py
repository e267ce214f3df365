"""KAdaptation (arXiv 2203.16329): updates that are sums of Kronecker products, with one factor shared by all layers.

``mode`` ``corrected`` (default) follows the paper: every update has fast factors of its own, is zero at first and yet
trainable, and is merged into the weight on export. ``reference`` is the released code, number for number
(:mod:`models.kadaptation.reference`); it exists for CLIP's transformer alone and cannot be merged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.backbones.vit import VitAttention, VitBlock
from models.encoders import ImageEncoder
from models.kadaptation.deltas import KADAPTATION_SCALE, KRONECKER_FACTORS, KroneckerDelta, SlowFactors
from models.kadaptation.reference import Attention, SlowRules
from services.errors import Kind, Problem
from services.finetuning.strategies.base import Options, Strategy, add_updates, parts_of, unsuitable
from services.finetuning.strategies.sites import Projection

FEWEST = 4
"""Kronecker factors below which there is nothing left to share."""

MODES = ("corrected", "reference")


def _apply(encoder: ImageEncoder, options: Options) -> None:
    if options["mode"] not in MODES:
        raise Problem(
            Kind.INVALID,
            "unknown-option",
            "There is no such mode",
            f"kadaptation has no mode {options['mode'][:100]!r}.",
            pointer="/parameters/options/mode",
            remedy=f"Use {' or '.join(MODES)}.",
        )
    if options["mode"] == "reference":
        _apply_released(encoder)
    else:
        _apply_corrected(encoder, options)


def _apply_corrected(encoder: ImageEncoder, options: Options) -> None:
    sites = parts_of("kadaptation", encoder, options["parts"].split(), ("expand", "project"))
    n = _factors(sites, int(options["factors"]))
    if n < FEWEST:
        why = f"the widths of its projections have no common divisor of {FEWEST} or more"
        raise unsuitable("kadaptation", encoder, why, "Choose lora, which fits any width.")

    slow: dict[str, SlowFactors] = {}
    for part in dict.fromkeys(site.part for site in sites):
        slow[part] = SlowFactors(n)
        encoder.add_module(f"slow_{part}", slow[part])

    scale = float(options["scale"])
    add_updates(sites, lambda site: KroneckerDelta(*site.shape, slow[site.part], scale))
    for shifted in _with_bias(sites):
        shift = Shift(shifted[0].shape[0])
        add_updates(shifted, lambda site, shift=shift: shift)  # type: ignore[misc]


def _factors(sites: list[Projection], most: int) -> int:
    """The largest power of two up to ``most`` that divides every side of every site."""
    sides = {side for site in sites for side in site.shape}
    n = 1
    while 2 * n <= most and all(side % (2 * n) == 0 for side in sides):
        n *= 2
    return n


class Shift(nn.Module):
    """``b``: one bias a layer, which its query's and its value's update share, as in the paper's code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(width))

    def weight(self) -> Tensor:
        return self.b


def _with_bias(sites: list[Projection]) -> list[list[Projection]]:
    """The biases of the sites, one list for every module of several sites of one height."""
    of_module: dict[nn.Module, list[Projection]] = {}
    for site in sites:
        if site.bias is not None:
            bias = Projection(site.module, site.bias, None, site.start, site.stop, site.part)
            of_module.setdefault(site.module, []).append(bias)
    return [own for own in of_module.values() if len({site.stop - site.start for site in own}) == 1]


class ReleasedAttention(nn.Module):
    """The released attention in the place of :class:`VitAttention`: ``(B, L, W)`` to the same."""

    def __init__(self, plain: VitAttention, rules: SlowRules) -> None:
        super().__init__()
        self.inner = Attention(plain.out_proj.in_features, plain.heads, "kadaptation", rules)
        self.inner.in_proj_weight = plain.in_proj_weight
        self.inner.in_proj_bias = plain.in_proj_bias
        self.inner.out_proj = plain.out_proj

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.transpose(0, 1)).transpose(0, 1)
        return out


def _apply_released(encoder: ImageEncoder) -> None:
    """Its dropout of one half is off, as it is in the released code from the second epoch on."""
    blocks = [module for module in encoder.modules() if isinstance(module, VitBlock)]
    if not blocks:
        why = "the released code knows CLIP's vision transformer alone"
        raise unsuitable("kadaptation in reference mode", encoder, why, 'Leave the mode out, or send "corrected".')
    if blocks[0].attn.out_proj.in_features % KRONECKER_FACTORS:
        why = f"its width is no multiple of {KRONECKER_FACTORS}"
        raise unsuitable("kadaptation in reference mode", encoder, why)
    rules = SlowRules()
    for block in blocks:
        setattr(block, "attn", ReleasedAttention(block.attn, rules))  # noqa: B010 - of another type on purpose


STRATEGY = Strategy(
    "Kronecker updates of weights",
    _apply,
    encoder_rate=1e-1,  # with 1, EfficientNet-Lite2 falls apart at few shots
    options={
        "mode": "corrected",
        "parts": "query value",
        "factors": KRONECKER_FACTORS,
        "scale": KADAPTATION_SCALE,
    },
)
