"""MiniLM's row of :mod:`models.families`."""

from __future__ import annotations

from models.family import Builder, Family
from models.minilm.export import build

FAMILY = Family(builders={"minilm": Builder(build)})
