"""KAdaptation's row of :mod:`models.families`: a method and not a model, so that it has fixtures alone."""

from __future__ import annotations

from models.family import Family
from models.kadaptation.fixtures import check
from models.parity import FixtureKind

FAMILY = Family(fixtures=(FixtureKind("kadaptation", lambda config: "phm_dim" in config and "cases" in config, check),))
