"""FocalNet's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Converter, Family
from models.focalnet.checkpoint import published_as
from models.focalnet.convert import convert
from models.focalnet.fixtures import check_manifest, check_network
from models.parity import FixtureKind

FAMILY = Family(
    converter=Converter(convert, published_as),
    fixtures=(
        FixtureKind("focalnet", lambda config: "focal_levels" in config.get("constructor", {}), check_network),
        FixtureKind(
            "focalnet-manifest",
            lambda config: "keys" in config and "focal_levels" in config.get("hyperparameters", {}),
            check_manifest,
        ),
    ),
)
