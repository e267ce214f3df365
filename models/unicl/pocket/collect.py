"""Fetch the packages that ``sources.lock`` pins, and say whose drawings they are."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from models.catalog.lock import Source, read_lock
from models.errors import ModelError
from models.intake.sources.fetch import fetch
from models.progress import Progress
from models.unicl.pocket.build import CLIPART, Summary, build

LOCK = Path(__file__).parent / "sources.lock"
ATTRIBUTION = "ATTRIBUTION.md"


def collect(into: Path, cache: Path, progress: Progress, *, clipart: bool = True) -> Summary:
    """Fetch what is not in ``cache``, render it into ``into`` and write the attribution beside it.

    Raises :class:`models.errors.ModelError` where a package cannot be had or is not the pinned one. ``clipart=False``
    leaves out Debian's clip art, which needs a Debian machine.
    """
    if importlib.util.find_spec("resvg_py") is None:
        raise ModelError(
            "drawing vector pictures needs resvg-py, which is not installed", "pip install 'sightline[data]'"
        )

    lock = {name: source for name, source in read_lock(LOCK).items() if clipart or name != CLIPART}
    folders = {name: fetch(name, cache, progress, lock) for name in lock}
    summary = build(folders, into, progress)
    (into / ATTRIBUTION).write_text(attribution(lock), "utf-8")
    return summary


def attribution(lock: Mapping[str, Source]) -> str:
    """Whose work the set is made of, and under which licence."""
    lines = [
        "# Whose drawings these are",
        "",
        "Scaled to 64 pixels and not changed otherwise. A licence may ask you to name the authors when you pass these",
        "pictures on; the lines below do.",
        "",
        "| source | use | licence | attribution |",
        "| --- | --- | --- | --- |",
    ]
    for source in lock.values():
        lines.append(f"| {source.address} | {source.note} | {source.licence.spdx} | {source.licence.attribution} |")
    return "\n".join(lines) + "\n"
