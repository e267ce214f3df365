"""GLIP's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Converter, Family
from models.glip import fixtures, fixtures_boxes
from models.glip.cards import part_names
from models.glip.checkpoint import published_as
from models.glip.convert import convert

FAMILY = Family(
    converter=Converter(convert, published_as, part_names),
    fixtures=(*fixtures.KINDS, *fixtures_boxes.KINDS),
)
