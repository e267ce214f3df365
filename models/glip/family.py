"""GLIP's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Builder, Converter, Family
from models.glip import fixtures, fixtures_boxes
from models.glip.cards import part_names
from models.glip.checkpoint import published_as
from models.glip.convert import convert
from models.glip.pocket import export as pocket

FAMILY = Family(
    builders={
        "glip-pocket": Builder(pocket.build_pipeline),
        "glip-pocket-image": Builder(pocket.build_image),
        "glip-pocket-head": Builder(pocket.build_head),
    },
    converter=Converter(convert, published_as, part_names),
    fixtures=(*fixtures.KINDS, *fixtures_boxes.KINDS),
)
