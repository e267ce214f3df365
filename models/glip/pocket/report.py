"""``python -m models.glip.pocket.report NAME``: the tables and the training curve of a pocket detector's page.

``NAME`` is ``glip-pocket`` or ``regionclip-pocket``; its figures, logs and page lie in ``docs/models``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.unicl.pocket.report import curve
from models.unicl.report import replaced

MEASURES, COMPARISON, LOG, CURVE = "measures.json", "comparison.json", "train.jsonl", "curve.svg"
COLUMNS = ("without names", "named", "relations", "colours", "presence AUROC", "presence error")
TITLES = ("AP50 without names", "AP50 of 20 names", "relations", "colours", "presence AUROC", "its error")
LOSSES = ("alignment", "objectness", "giou", "centerness", "distil", "contrastive", "caption")


def measure_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a suite, figures in percent."""
    yield f"| scenes | boxes | {' | '.join(TITLES)} |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        cells = [f"{row[column]:.1f}" if column in row else "-" for column in COLUMNS]
        yield f"| {row['suite']} | {row['boxes']} | {' | '.join(cells)} |"


def comparison_table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a measure, a column a run."""
    titles = ["with deep fusion" if run["fused"] else "without" for run in runs]
    yield f"| Fluent-3D, seen concepts, {runs[0]['scenes']} scenes each | {' | '.join(titles)} |"
    yield f"| --- |{' --- |' * len(runs)}"
    for name in runs[0]["measures"]:
        cells = " | ".join(f"{run['measures'][name]:.1f}" for run in runs)
        yield f"| {name} | {cells} |"


def curve_lines(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A log's lines as the curve reads them: scenes seen and the sum of the losses."""
    return [
        {"images": line["scenes"], "loss": sum(line.get(name, 0.0) for name in LOSSES), "size": 160} for line in log
    ]


def write(folder: Path, page: Path) -> None:
    """Put the tables of ``folder``'s files into ``page``, and draw the curve."""
    text = replaced(page.read_text("utf-8"), "measures", measure_table(json.loads((folder / MEASURES).read_text())))
    if (folder / COMPARISON).exists():
        text = replaced(text, "comparison", comparison_table(json.loads((folder / COMPARISON).read_text())))
    page.write_text(text, "utf-8")
    log = [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    drawn = curve(curve_lines(log)).replace("drawings seen", "scenes seen")
    (folder / CURVE).write_text(drawn, "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.glip.pocket.report", description=__doc__)
    parser.add_argument("name", choices=["glip-pocket", "regionclip-pocket"])
    parser.add_argument("--folder", type=Path, default=Path("docs/models"), help="of pages and results")
    options = parser.parse_args(arguments)
    write(options.folder / options.name, options.folder / f"{options.name}.md")


if __name__ == "__main__":
    main()
