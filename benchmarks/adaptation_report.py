"""The tables of docs/benchmark.md out of what benchmarks/adaptation_table.py measured; no figure is typed.

``python -m benchmarks.adaptation_report [--results docs/benchmark/units.jsonl] [--write docs/benchmark.md]``
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.adaptation_table import RESULTS
from models.unicl.report import replaced
from services.benchmark.results import Cell, Record, cells

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
    ("kadaptation-language", "linear-probe-language"),
    ("kadaptation-language", "lora-language"),
    ("full-language", "linear-probe-language"),
)
"""The differences that are asked for: the first way minus the second."""

Way = tuple[str, int]
"""A model and the side of its pictures, 0 for its own."""


def read(path: Path) -> dict[Way, list[Record]]:
    """The units of a file by model and side; of a unit that was measured with two encoders, the newer counts."""
    newest: dict[tuple[Any, ...], tuple[Way, Record]] = {}
    fields = Record.__dataclass_fields__
    for line in map(json.loads, path.read_text().splitlines()):
        record = Record.of({name: value for name, value in line.items() if name in fields})
        newest[line["key"], line["side"]] = ((record.model, line["side"]), record)
    found: dict[Way, list[Record]] = {}
    for way, record in newest.values():
        found.setdefault(way, []).append(record)
    return found


def score_table(table: Sequence[Cell]) -> Iterator[str]:
    """A line a data set and number of shots, a column a protocol, and what each trained."""
    by = {(cell.dataset, cell.shots, cell.protocol): cell for cell in table}
    columns = [name for name in COLUMNS if any(cell.protocol == name for cell in table)]
    yield "| data set | shots | " + " | ".join(COLUMNS[name] for name in columns) + " |"
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
    """What one way has over another, in points, with both standard errors joined; and the mean over data sets."""
    yield "| | shots | " + " | ".join(f"{COLUMNS[left]} − {COLUMNS[right]}" for left, right in PAIRS) + " |"
    yield "|---|---|" + "---:|" * len(PAIRS)
    for way, table in of.items():
        by = {(cell.dataset, cell.shots, cell.protocol): cell for cell in table}
        shots = sorted({cell.shots for cell in table if cell.shots})
        for count in shots:
            row = []
            for left, right in PAIRS:
                pairs = [
                    (by[name, count, left], by[name, count, right])
                    for name in dict.fromkeys(cell.dataset for cell in table)
                    if (name, count, left) in by and (name, count, right) in by
                ]
                row.append(_difference(pairs))
            if any(cell != "–" for cell in row):
                yield f"| {titled(way)} | {count} | " + " | ".join(row) + " |"


def titled(way: Way) -> str:
    """A model as the page calls it."""
    return f"{way[0]} at {way[1]} px" if way[1] else way[0]


def _row(*cells: str | Iterable[str]) -> str:
    flat = [one for cell in cells for one in ([cell] if isinstance(cell, str) else cell)]
    return "| " + " | ".join(flat) + " |"


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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptation_report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", type=Path, help="page whose tables are exchanged")
    options = parser.parse_args(arguments)
    found = {way: cells(records) for way, records in sorted(read(options.results).items())}
    tables = {titled(way): list(score_table(table)) for way, table in found.items()}
    tables["differences"] = list(difference_table(found))
    if options.write is None:
        for name, table in tables.items():
            print(f"{name}\n" + "\n".join(table) + "\n")
        return
    page = options.write.read_text("utf-8")
    for name, table in tables.items():
        page = replaced(page, name, table)
    options.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
