"""NanoDet's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Builder, Family
from models.nanodet.export import build

FAMILY = Family(builders={"nanodet-plus-m": Builder(build)})
