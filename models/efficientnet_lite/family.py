"""EfficientNet-Lite's row of :mod:`models.families`."""

from __future__ import annotations

from models.efficientnet_lite.export import build, encoder
from models.family import Builder, Family

FAMILY = Family(builders={"efficientnet-lite": Builder(build, encoder)})
