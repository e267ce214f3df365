"""The table of all lines: a row here is what makes ``models/<line>`` known to pulling, converting and verifying.

A name is the ``family`` on a model's card. A line is imported when something asks for it, and no sooner.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from models.catalog.catalog import CatalogError, Entry
from models.errors import ModelError
from models.family import Builder, Converter, Family

EXPORT = ("torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Row:
    """``module`` holds the line's :class:`Family` as ``FAMILY``; ``packages`` are what it needs installed."""

    module: str
    packages: tuple[str, ...] = EXPORT


FAMILIES: dict[str, Row] = {
    "efficientnet-lite": Row("models.efficientnet_lite.family"),
    "focalnet": Row("models.focalnet.family"),
    "glip": Row("models.glip.family"),
    "kadaptation": Row("models.kadaptation.family", ("torch",)),
    "minilm": Row("models.minilm.family"),
    "nanodet": Row("models.nanodet.family"),
    "regionclip": Row("models.regionclip.family"),
    "unicl": Row("models.unicl.family"),
    "weight-prediction": Row("models.zero_shot.family", ("onnx", "onnxruntime")),
}


def family(name: str) -> Family:
    """The line of that name; raises :class:`ModelError` for one that is not in the table, or lacks a package here."""
    if name not in FAMILIES:
        raise ModelError(f"no family {name!r} of models", f"models/families.py has {', '.join(sorted(FAMILIES))}")

    row = FAMILIES[name]
    missing = [package for package in row.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(
            f"exporting this model needs {', '.join(missing)}, which is not installed; serving does not",
            "run `make setup`, or `pip install torch==2.13.0 'sightline[train]'`",
        )

    found = importlib.import_module(row.module).FAMILY
    assert isinstance(found, Family)
    return found


def families() -> Iterator[Family]:
    """Every line of the table, in its order; see :func:`family` for what it raises."""
    return map(family, FAMILIES)


def builder(entry: Entry) -> Builder:
    """Return what a catalog entry's ``build`` names; raises :class:`ModelError` that says which names there are."""
    builders = family(entry.card.family).builders
    if entry.build not in builders:
        raise CatalogError(
            f"{entry.card.name}.yaml: build {entry.build!r} is no builder of the family {entry.card.family!r}",
            f"it has {', '.join(sorted(builders)) or 'none'}",
        )
    return builders[entry.build]


def converter(name: str) -> Converter:
    """How published checkpoints of a family become models; raises :class:`ModelError` for a family without any."""
    found = family(name).converter
    if found is None:
        raise ModelError(f"the family {name!r} converts no published checkpoints", "pull its models by name")
    return found
