"""The row of weight prediction (``photo-zero-shot``) in :mod:`models.families`."""

from __future__ import annotations

from models.family import Builder, Family
from models.zero_shot.build import build

FAMILY = Family(builders={"photo-zero-shot": Builder(build)})
