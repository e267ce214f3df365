"""The layouts that an uploaded data set may have: all are scored on the whole listing, the best fit reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import cast

from services.datasets.formats import coco, folders, lists, masks, table, voc, yolo
from services.datasets.formats.layout import Fit, Layout
from services.datasets.listing import Listing, Unreadable
from services.datasets.samples import Parsed
from services.errors import Kind, Problem

_MODULES: tuple[ModuleType, ...] = (lists, coco, yolo, voc, table, masks, folders)
LAYOUTS: dict[str, Layout] = {module.NAME: cast(Layout, module) for module in _MODULES}
"""Of equal fits the first here reads: a list that names classes says more than folders do."""

_LOOKED_AT = 50
"""Files that are looked at for what may be wrong with all."""

CLOSE = 0.2
"""A second layout whose score comes this near is named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that reads an upload, why, and the one that nearly did."""

    name: str
    why: str
    score: float
    runner_up: str | None = None
    runner_up_why: str | None = None


def choose(listing: Listing, forced: str | None = None) -> Choice:
    """Find the layout of an upload; ``forced`` names one. Raises :class:`Problem` ``dataset-layout-unknown``."""
    if forced is not None:
        if forced not in LAYOUTS:
            raise Problem(
                Kind.INVALID,
                "dataset-layout-unknown",
                "There is no such layout",
                f"{forced[:40]!r} is no layout.",
                pointer="/layout",
                remedy=f"Layouts are {', '.join(LAYOUTS)}.",
            )
        asked = LAYOUTS[forced].fit(listing) or Fit(0.0, "nothing of it was found")
        return Choice(forced, f"asked for; {asked.why}", asked.score)

    fits = [(name, fit) for name, layout in LAYOUTS.items() if (fit := layout.fit(listing)) is not None]
    ranked = sorted(fits, key=lambda one: -round(one[1].score, 3))  # stable: equal scores keep the order of LAYOUTS
    if not ranked or ranked[0][1].score < 0.1:
        raise _unknown(listing, ranked)
    name, best = ranked[0]
    second = next((one for one in ranked[1:] if best.score - one[1].score <= CLOSE), None)
    return Choice(name, best.why, best.score, second[0] if second else None, second[1].why if second else None)


def read(listing: Listing, layout: str) -> Parsed:
    """Read the upload as ``layout``. Raises :class:`Problem` where that layout is refused."""
    return LAYOUTS[layout].read(listing)


def _unknown(listing: Listing, ranked: list[tuple[str, Fit]]) -> Problem:
    shown = ", ".join(repr(name) for name in listing.names[:5])
    nearest = f" Nearest was {ranked[0][0]}: {ranked[0][1].why}." if ranked else ""
    unread = next(_unreadable(listing), "")
    return Problem(
        Kind.INVALID,
        "dataset-layout-unknown",
        "No known data set layout was found",
        f"None of the {len(listing.names)} files ({shown}...) make a class folder, COCO, YOLO, VOC, CSV, JSONL or "
        f"ELEVATER list layout.{nearest}{unread}",
        remedy="Put images into one folder a class (optionally below train/, val/, test/), or add a COCO "
        "annotations json, a labels.csv with columns image,label, or an ELEVATER index list with labels.txt.",
    )


def _unreadable(listing: Listing) -> Iterator[str]:
    """Annotations that cannot be read, which may be why nothing was found."""
    for name in listing.suffixed(".json", ".csv", ".tsv", ".jsonl", ".ndjson", ".xml", ".txt")[:_LOOKED_AT]:
        try:
            listing.json(name) if name.lower().endswith(".json") else listing.text(name)
        except Unreadable as error:
            yield f" {name!r} cannot be read: {error}."
