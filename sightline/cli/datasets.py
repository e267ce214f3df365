"""``sightline datasets``: data sets that are made here, from packages of public registries."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.output import DataDirOption, JsonOption, console, print_json, progress_bars, settings_with

app = typer.Typer(help="Build data sets from pinned packages.", no_args_is_help=True)


class Buildable(StrEnum):
    pictographs = "pictographs"


@app.callback()
def root() -> None:
    """Keeps ``build`` a command of its own while it is the only one."""


@app.command()
def build(
    name: Annotated[Buildable, typer.Argument(metavar="NAME", help="Which: pictographs.", show_default=False)],
    into: Annotated[Path | None, typer.Option(help="Folder to write; below the data directory when absent.")] = None,
    clipart: Annotated[
        bool, typer.Option(help="With Debian's openclipart-png, which needs a Debian machine (131 MB).")
    ] = True,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch, render and split a data set. The same pins give the same bytes; ATTRIBUTION.md says whose work it is."""
    from models.pictographs.collect import collect

    settings = settings_with(data_dir=data_dir)
    folder = into or settings.sets_dir / name.value
    with progress_bars(silent=json) as bar:
        summary = collect(folder, settings.cache_dir, bar(name.value), clipart=clipart)
    if json:
        print_json({"folder": folder, "concepts": summary.concepts, "core": summary.core, "unseen": summary.unseen,
                    "families": summary.families, "drawings": summary.images})  # fmt: skip
        return
    drawings = ", ".join(f"{count:,} {style}" for style, count in summary.images.items())
    console().print(
        f"{folder}: {summary.concepts:,} concepts, {summary.core:,} of them drawn in every style, {summary.unseen} "
        f"of those kept unseen\n{drawings}"
    )
