"""``sightline models list``: what is in the catalog, what is installed, and everything that can be pulled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli import cards
from sightline.cli.output import print_json, size, table

if TYPE_CHECKING:
    from models.catalog.card import Card


def show_models(root: Path, *, json: bool) -> None:
    """Every model of the catalog, and every one that is installed in ``root``."""
    from models.catalog.catalog import Catalog
    from models.repository.reading import installed

    there = installed(root)
    known: dict[str, Card] = {name: entry.card for name, entry in Catalog.read().entries.items()}
    known |= {version.name: version.card for version in there if version.card is not None}
    lines = []
    for name in sorted(known.keys() | {version.name for version in there}):
        versions = [version for version in there if version.name == name]
        card = known.get(name)
        broken = next((version.problem for version in versions if version.problem), None)
        state = "damaged" if broken else "installed" if versions else "available"
        lines.append(
            {
                "name": name,
                "task": card.task if card else None,
                "title": card.title if card else None,
                "licence": card.licence.spdx if card else None,
                "state": state,
                "versions": [version.version for version in versions],
                "bytes": sum(cards.size_of(version.folder) for version in versions),
                "problem": broken,
            }
        )
    if json:
        print_json(lines)
        return
    from rich.text import Text

    styles = {"installed": "green", "available": "dim", "damaged": "red"}
    table(
        ("name", "task", "state", "versions", "size", "licence", "title"),
        [
            (
                Text(str(line["name"]), "bold"),
                str(line["task"] or ""),
                Text(str(line["state"]), styles[str(line["state"])]),
                ", ".join(version.version for version in there if version.name == line["name"]),
                size(line["bytes"]) if isinstance(line["bytes"], int) and line["bytes"] else "",
                str(line["licence"] or ""),
                str(line["problem"] or line["title"] or ""),
            )
            for line in lines
        ],
        right=("size",),
    )


def show_available(*, json: bool) -> None:
    """Models of the catalog and published checkpoints, with title, licence and the bytes that are fetched."""
    from models.catalog.catalog import Catalog
    from models.catalog.releases import Release

    catalog = Catalog.read()
    lines = []
    for name in sorted(catalog.names):
        found = catalog.find(name)
        about = found if isinstance(found, Release) else found.card
        lines.append(
            {
                "name": name,
                "title": about.title,
                "licence": about.licence.spdx,
                "bytes": catalog.download_size(name),
                "published": isinstance(found, Release),
                "by_hand": isinstance(found, Release) and found.pin is None,
            }
        )
    if json:
        print_json(lines)
        return
    table(
        ("name", "size", "licence", "file", "title"),
        [
            (
                str(line["name"]),
                size(line["bytes"]) if isinstance(line["bytes"], int) else "",
                str(line["licence"]),
                "by hand" if line["by_hand"] else "fetched",
                str(line["title"]),
            )
            for line in lines
        ],
        right=("size",),
    )
