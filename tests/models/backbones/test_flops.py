"""Counted arithmetic: of one layer by hand, and of the published networks by their authors' formula."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from models.backbones.flops import Size, measure
from models.backbones.focalnet import FocalNet
from models.focalnet.variants import VARIANTS

MANIFESTS = Path(__file__).parents[2] / "parity" / "manifests"


def test_one_convolution_is_counted_as_by_hand() -> None:
    size = measure(partial(nn.Conv2d, 4, 8, 3, padding=1, groups=4), (1, 4, 10, 6))
    assert size == Size(parameters=8 * 9 + 8, macs=10 * 6 * 8 * 9)


@pytest.mark.parametrize("variant", ["focalnet_tiny_srf", "focalnet_base_lrf", "focalnet_base_iso"])
def test_focalnets_cost_what_their_authors_say(variant: str) -> None:
    about = json.loads((MANIFESTS / f"{variant}.json").read_text())
    side = about["hyperparameters"]["img_size"]
    size = measure(partial(FocalNet, VARIANTS[variant]), (1, 3, side, side))
    assert size.parameters == about["n_parameters"]
    assert size.macs / 1e9 == pytest.approx(about["hyperparameters"]["flops_G_reference_formula"], rel=0.005)
