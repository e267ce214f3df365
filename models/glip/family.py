"""GLIP's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Family
from models.glip.fixtures import KINDS

FAMILY = Family(fixtures=KINDS)
