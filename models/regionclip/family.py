"""RegionCLIP's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Builder, Converter, Family
from models.parity import FixtureKind
from models.regionclip import fixtures
from models.regionclip.cards import part_names
from models.regionclip.checkpoint import published_as
from models.regionclip.convert import convert
from models.regionclip.pocket import export as pocket

FAMILY = Family(
    builders={
        "regionclip-pocket": Builder(pocket.build_pipeline),
        "regionclip-pocket-proposals": Builder(pocket.build_proposals),
        "regionclip-pocket-regions": Builder(pocket.build_regions),
    },
    converter=Converter(convert, published_as, part_names),
    fixtures=(
        FixtureKind("roi-align", fixtures.is_roi_align, fixtures.check_roi_align),
        FixtureKind("regionclip", fixtures.is_recognition, fixtures.check_recognition),
        FixtureKind("regionclip-language", fixtures.is_language, fixtures.check_language),
        FixtureKind("regionclip-manifest", fixtures.is_manifest, fixtures.check_manifest),
    ),
)
