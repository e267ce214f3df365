"""``sightline models list --available``: everything that ``sightline models pull`` takes the name of."""

from __future__ import annotations

from sightline.cli.output import print_json, size, table


def tell(*, json: bool) -> None:
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
