"""The tables of docs/benchmark.md out of what speed/adaptation_table.py measured; no figure is typed.

``python -m speed.adaptation_report [--results docs/benchmark/units.jsonl] [--write docs/benchmark.md]``
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.unicl.report import replaced
from services.evaluation.reports.results import Cell, Record, cells
from speed.adaptation_sets import POCKET, SETS
from speed.adaptation_table import RESULTS

COLUMNS = {
    "zero-shot": "zero-shot",
    "linear-probe": "probe, random",
    "linear-probe-language": "probe, language",
    "linear-probe-fixed": "probe, random, no search",
    "linear-probe-language-fixed": "probe, language, no search",
    "lora-language": "LoRA",
    "adapter-language": "adapter",
    "kadaptation-language": "KAdaptation",
    "full-language": "full",
}
"""Protocols and what their columns are called."""
ZERO_SHOT = ("zero-shot", "zero-shot-descriptions")
DESCRIBED = {"zero-shot": "zero-shot-descriptions", "linear-probe-language": "linear-probe-descriptions"}
PAIRS = (
    ("linear-probe-language", "linear-probe"),
    ("linear-probe-language-fixed", "linear-probe-fixed"),
    ("kadaptation-language", "linear-probe-language-fixed"),
    ("kadaptation-language, encoder at 1", "linear-probe-language-fixed"),
    ("kadaptation-language", "lora-language"),
    ("kadaptation-language, encoder at 1", "lora-language"),
    ("lora-language", "linear-probe-language-fixed"),
    ("full-language", "linear-probe-language-fixed"),
)
"""The differences that are asked for: the first way minus the second."""
GROUPS = (("4 or 5", range(1, 6)), ("20", range(20, 21)), ("30 or 50", range(30, 51)))
"""Shots that are taken together, for not every set has the same."""

SHARE = ", encoder at "

Way = tuple[str, int]
"""A model and the side of its pictures, 0 for its own."""


def read(path: Path) -> dict[Way, list[Record]]:
    """The units of a file by model and side; of a unit that was measured several times, the last counts.

    Where the encoder was given several shares of the learning rate, the last one has the protocol's name, and each
    other one a name of its own.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    last = {(line["model"], line["side"], line["protocol"]): line["share"] for line in lines}
    newest: dict[tuple[Any, ...], tuple[Way, Record]] = {}
    for line in lines:
        record = Record.of({name: value for name, value in line.items() if name in Record.__dataclass_fields__})
        if line["share"] != last[line["model"], line["side"], line["protocol"]]:
            record = replace(record, protocol=f"{line['protocol']}{SHARE}{line['share']:g}")
        newest[line["key"], line["side"], line["share"]] = ((record.model, line["side"]), record)
    found: dict[Way, list[Record]] = {}
    for way, record in newest.values():
        found.setdefault(way, []).append(record)
    return found


def score_table(table: Sequence[Cell]) -> Iterator[str]:
    """A line a data set and number of shots, a column a protocol, and what each trained."""
    by = {(cell.dataset, cell.shots, cell.protocol): cell for cell in table}
    there = sorted({cell.protocol for cell in table})
    columns = [name for base in COLUMNS for name in there if name.partition(SHARE)[0] == base]
    yield _row("data set", "shots", (_column(name) for name in columns))
    yield "|---|---|" + "---:|" * len(columns)
    for dataset in dict.fromkeys(cell.dataset for cell in table):
        counts = {cell.shots for cell in table if cell.dataset == dataset and cell.shots != 0} or {0}
        for count in sorted(counts, key=lambda one: math.inf if one is None else one):
            row = [by.get((dataset, 0 if name in ZERO_SHOT else count, name)) for name in columns]
            best = max((cell.mean for cell in row if cell is not None), default=0.0)
            yield _row(dataset, _shots(count), (_score(cell, best) for cell in row))
            others = [DESCRIBED.get(name, "") for name in columns]
            row = [by.get((dataset, 0 if name in ZERO_SHOT else count, name)) for name in others]
            if any(cell is not None for cell in row):
                yield _row(
                    f"{dataset}, described", _shots(count), ("" if cell is None else _score(cell) for cell in row)
                )
        trained = {cell.protocol: f"*{cell.trainable:,.0f}*" for cell in table if cell.dataset == dataset}
        yield _row("", "*trained*", (trained.get(name, "–") for name in columns))


def difference_table(of: dict[Way, list[Cell]]) -> Iterator[str]:
    """What one way has over another, in points, with both standard errors joined: means over data sets."""
    yield _row("", "shots", (f"{_column(left)} − {_column(right)}" for left, right in PAIRS))
    yield "|---|---|" + "---:|" * len(PAIRS)
    for way, table in of.items():
        by = {(cell.dataset, cell.shots, cell.protocol): cell for cell in table}
        for label, group in GROUPS:
            places = list(dict.fromkeys((cell.dataset, cell.shots) for cell in table if (cell.shots or 0) in group))
            row = [
                _difference(
                    (by[*at, left], by[*at, right]) for at in places if {(*at, left), (*at, right)} <= by.keys()
                )
                for left, right in PAIRS
            ]
            if any(cell != "–" for cell in row):
                yield _row(titled(way), label, row)


def titled(way: Way) -> str:
    """A model as the page calls it."""
    return f"{way[0]} at {way[1]} px" if way[1] else way[0]


def _row(*cells: str | Iterable[str]) -> str:
    flat = [one for cell in cells for one in ([cell] if isinstance(cell, str) else cell)]
    return "| " + " | ".join(flat) + " |"


def _column(protocol: str) -> str:
    base, between, share = protocol.partition(SHARE)
    return COLUMNS[base] + between + share


def _shots(count: int | None) -> str:
    return "all" if count is None else str(count or "")


def _difference(pairs: Iterable[tuple[Cell, Cell]]) -> str:
    own = [(left.mean - right.mean, math.hypot(left.stderr, right.stderr)) for left, right in pairs]
    if not own:
        return "–"
    mean = sum(value for value, _ in own) / len(own)
    error = math.sqrt(sum(error**2 for _, error in own)) / len(own)
    shown = f"{100 * mean:+.1f} ± {100 * error:.1f}"
    return f"{f'**{shown}**' if abs(mean) > 2 * error else shown} ({len(own)} {'set' if len(own) == 1 else 'sets'})"


def _score(cell: Cell | None, best: float = math.inf) -> str:
    if cell is None:
        return "–"
    shown = f"{100 * cell.mean:.1f} ± {100 * cell.stderr:.1f}"
    if cell.method is not None and len(cell.seeds) < 3:
        shown += f" ({len(cell.seeds)} {'seed' if len(cell.seeds) == 1 else 'seeds'})"
    return f"**{shown}**" if cell.mean >= best else shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(prog="python -m speed.adaptation_report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", type=Path, help="page whose tables are exchanged")
    options = parser.parse_args(arguments)
    found = {way: cells(records) for way, records in sorted(read(options.results).items())}
    ours = {way: [cell for cell in table if cell.dataset in SETS] for way, table in found.items()}
    tables = {titled(way): list(score_table(table)) for way, table in ours.items()}
    for way, table in found.items():
        if others := [cell for cell in table if cell.dataset in POCKET]:
            tables[f"{titled(way)} on pocket"] = list(score_table(others))
    tables["differences"] = list(difference_table(ours))
    if options.write is None:
        for name, lines in tables.items():
            print(f"{name}\n" + "\n".join(lines) + "\n")
        return
    page = options.write.read_text("utf-8")
    for name, lines in tables.items():
        page = replaced(page, name, lines)
    options.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
