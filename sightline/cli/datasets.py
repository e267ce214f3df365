"""``sightline datasets``: your data sets on the platform, and sets that are made here from packages of registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.options import KeyOption, UrlOption, connect
from sightline.cli.output import DataDirOption, JsonOption, console, print_json, progress_bars, settings_with, table

if TYPE_CHECKING:
    from sightline.client import Dataset
    from sightline.client.datasets import Account

SHOWN = 20
SPLITS = ("train", "val", "test")

app = typer.Typer(
    help="Upload labelled image sets and look at yours; build sets from pinned packages.", no_args_is_help=True
)


class Buildable(StrEnum):
    pictographs = "pictographs"


@app.command()
def upload(
    content: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, a zip or a tar with pictures and labels.")],
    name: Annotated[str, typer.Option("--name", help="What it is called: jobs and suites (dataset:NAME) name it so.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the whole set for one flaw.")] = False,
    layout: Annotated[
        str | None,
        typer.Option(help="How it is laid out: folders, coco, yolo, voc, table or iris; found out when absent."),
    ] = None,
    allow_losses: Annotated[
        bool,
        typer.Option("--allow-losses", help="Keep what is sound even where a class, a split or a tenth is lost."),
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Import a labelled set: class folders, COCO, YOLO, VOC, CSV, TSV or JSONL tables, or ELEVATER's lists.

    Says how it was read, and what became of every file and every annotation.
    """
    with connect(url, key) as client:
        made = client.datasets.upload(content, name, strict=strict, layout=layout, allow_losses=allow_losses)

    if json:
        print_json(asdict(made))
        return

    print_sets([made])
    if made.account is not None:
        print_account(made.account)

    for problem in made.problems[:SHOWN]:
        console(errors=True).print(problem)

    if made.problem_count > SHOWN:
        console(errors=True).print(f"and {made.problem_count - SHOWN:,} more that were left out")


@app.command("list")
def list_sets(url: UrlOption = None, key: KeyOption = None, json: JsonOption = False) -> None:
    """Your data sets, newest first."""
    with connect(url, key) as client:
        found = list(client.datasets.list())
    if json:
        print_json([asdict(one) for one in found])
    elif found:
        print_sets(found)
    else:
        console().print("You have no data sets; `sightline datasets upload FOLDER --name NAME` brings one.")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")],
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Remove a data set of yours. Models that were trained on it stay."""
    with connect(url, key) as client:
        client.datasets.delete(name)


def print_account(account: Account) -> None:
    """How an upload was read, and what of it was left out."""
    out = console()
    out.print(f"read as {account.layout}: {account.why}")
    if account.runner_up is not None:
        out.print(f"{account.runner_up} came close: --layout {account.runner_up} takes it")

    for what, tally in (("files", account.files), ("annotations", account.annotations)):
        out.print(f"{what}: {tally.seen:,} seen, {tally.read:,} read")
        for group in tally.left_out:
            out.print(f"  {group.count:,} left out: {group.reason}, as {', '.join(group.examples)}")


def print_sets(found: Sequence[Dataset]) -> None:
    """A line a set."""
    rows = [
        (one.name, one.id, one.task, f"{len(one.classes):,}", *(f"{one.counts.get(split, 0):,}" for split in SPLITS))
        for one in found
    ]
    table(("name", "id", "task", "classes", *SPLITS), rows, right=("classes", *SPLITS))


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
    from models.unicl.pocket.collect import collect

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
