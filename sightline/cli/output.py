"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from models.progress import Progress
    from services.settings import Settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where models, keys and jobs are. (env SIGHTLINE_DATA_DIR)", show_default=False),
]

_PIPE_WIDTH = 160
"""Columns when nobody looks: cut words help no program."""


def console(*, errors: bool = False) -> Console:
    """Standard output (or error). Colours only on a terminal, and never with ``NO_COLOR``."""
    from rich.console import Console

    made = Console(stderr=errors, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def print_json(value: object) -> None:
    """One JSON document on one line when piped, readable on a terminal."""
    import sys

    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, default=str), flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: Sequence[str] = ()) -> None:
    """A table; the columns named in ``right`` hold numbers. Strings are shown as they are, brackets and all."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(made)


def settings_with(**changes: object) -> Settings:
    """The settings of the environment, with the options that were given (those that are not ``None``) over them."""
    from services.settings import Settings

    return Settings(**{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def size(count: int) -> str:
    """Bytes for people: ``24.7 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


@contextmanager
def progress_bars(*, silent: bool) -> Iterator[Callable[[str], Progress]]:
    """A bar on standard error for each name that is asked for; it shows the stage that its work is in."""
    from models.progress import silent as nothing

    if silent:
        yield lambda name: nothing
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console(errors=True)) as bars:

        def bar(name: str) -> Progress:
            task = bars.add_task(name, total=None, stage="")

            def progress(stage: str, done: int, total: int) -> None:
                # Steps are few, bytes are many: what counts past a thousand is told as a size.
                amount = f" {size(done)} of {size(total)}" if total > 1000 else ""
                bars.update(task, completed=done, total=total or None, stage=stage + amount)

            return progress

        yield bar
