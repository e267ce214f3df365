"""``python -m models.unicl.pocket.report``: the figures of unicl-pocket, from the served files, and its page's tables.

``measure`` writes ``measures.json``; ``repeat`` measures runs of the recipe that differ in their seeds alone, and
``compare`` short runs of UniCL and of CLIP that differ in nothing else; ``write`` puts all into the page, and draws the
training curve. Before them, ``ship`` takes a run's weights and log into the repository and says what the catalog has to
be told.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from models.unicl.report import replaced

MEASURES, REPEATS, COMPARISON = "measures.json", "repeats.json", "comparison.json"
LOG, CURVE = "train.jsonl", "curve.svg"


def ship(run: Path, into: Path, weights: Path) -> str:
    """Copy a run's log and recipe into ``into`` and its weights, in half precision, to ``weights`` with whose drawings
    they learned from beside them. Gives what the cards say of them: the hash and the temperature."""
    from safetensors.torch import load_file

    from models.catalog.lock import read_lock
    from models.repository.hashing import sha256
    from models.unicl.pocket.collect import ATTRIBUTION, LOCK, attribution
    from models.unicl.pocket.export import pack
    from models.unicl.pocket.train import WEIGHTS

    pack(run / WEIGHTS, weights)
    trained = {name: source for name, source in read_lock(LOCK).items() if " only: " not in source.note}
    (weights.parent / ATTRIBUTION).write_text(attribution(trained), "utf-8")
    for name in (LOG, "recipe.json"):
        (into / name).write_bytes((run / name).read_bytes())
    scale = load_file(weights)["logit_scale"].exp().item()
    return f"options.weights and provenance: {sha256(weights)}\npipeline.parameters.scale: {scale:.2f}"


def measure(data: Path, repository: Path, into: Path) -> None:
    """Evaluate the served files of ``repository`` on the set in ``data``."""
    from models.unicl.pocket.dataset import Pictographs
    from models.unicl.pocket.evaluate import evaluate, served, validate

    pictographs = Pictographs(data)
    towers = served(repository, pictographs)
    rows = [validate(towers, pictographs), *evaluate(towers, pictographs)]
    _dump([row.dump() for row in rows], into / MEASURES)


def compare(data: Path, runs: Sequence[Path], into: Path) -> None:
    """Evaluate finished runs into a file; each says in its ``recipe.json`` which loss and seed it had."""
    from models.unicl.pocket.dataset import Pictographs
    from models.unicl.pocket.evaluate import evaluate, trained
    from models.unicl.pocket.network import load
    from models.unicl.pocket.train import WEIGHTS

    pictographs = Pictographs(data)
    found = []
    for run in runs:
        recipe = json.loads((run / "recipe.json").read_text("utf-8"))
        rows = evaluate(trained(load(run / WEIGHTS), pictographs), pictographs)
        loss = "UniCL" if recipe["unicl"] else "CLIP"
        found.append({"loss": loss, "seed": recipe["seed"], "steps": recipe["steps"], "rows": [r.dump() for r in rows]})
    _dump(found, into)


def measure_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a measure: top-1 / top-5 on white and on photos, with the standard error of the first top-1."""
    yield "| measure | ways | on white, top-1 / top-5 % | on photos, top-1 / top-5 % |"
    yield "| --- | --- | --- | --- |"
    for name in dict.fromkeys(row["measure"] for row in rows):
        own = {row["background"]: row for row in rows if row["measure"] == name}
        cells = [_cell(own.get(background)) for background in ("white", "photo")]
        ways = own["white"]["ways"]
        yield f"| {name} | {ways:,} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not taken"
    share = row["top1"] / 100
    error = 100 * math.sqrt(share * (1 - share) / row["ways"])
    return f"{row['top1']:.1f} ± {error:.1f} / {row['top5']:.1f}"


def repeats_table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a measure: means of top-1 and top-5 over seeds, on white and on photos, with their standard errors."""
    yield f"| measure, {len(runs)} seeds | on white, top-1 | top-5 | on photos, top-1 | top-5 % |"
    yield "| --- | --- | --- | --- | --- |"
    found = [{(row["measure"], row["background"]): row for row in run["rows"]} for run in runs]
    for name in dict.fromkeys(measure for measure, _ in found[0] if "pixels" not in measure):
        cells = [
            _mean([rows[name, background][key] for rows in found])
            for background in ("white", "photo")
            for key in ("top1", "top5")
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _mean(values: Sequence[float]) -> str:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{fmean(values):.1f} ± {error:.1f}"


def comparison_table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a measure on white: mean top-1 over seeds of both losses with its standard error."""
    losses = ("UniCL", "CLIP")
    counts = {loss: sum(run["loss"] == loss for run in runs) for loss in losses}
    yield "| measure, on white | " + " | ".join(f"{loss}, {counts[loss]} seeds, top-1 %" for loss in losses) + " |"
    yield "| --- | --- | --- |"
    for index, row in enumerate(runs[0]["rows"]):
        if row["background"] != "white" or "pixels" in row["measure"]:
            continue
        cells = [_mean([run["rows"][index]["top1"] for run in runs if run["loss"] == loss]) for loss in losses]
        yield f"| {row['measure']} | {' | '.join(cells)} |"


def curve(log: Sequence[dict[str, Any]], width: int = 640, height: int = 240) -> str:
    """The loss over the images seen, as a drawing; a dashed line where pictures get larger."""
    left, bottom, most = 40, height - 24, max(line["images"] for line in log)
    high = math.ceil(max(line["loss"] for line in log))
    low = math.floor(min(line["loss"] for line in log))

    def place(images: float, loss: float) -> str:
        x = left + (width - left - 8) * images / most
        return f"{x:.1f},{8 + (bottom - 8) * (high - loss) / (high - low):.1f}"

    points = " ".join(place(line["images"], line["loss"]) for line in log)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for loss in range(low, high + 1):
        x, y = place(0, loss).split(",")
        parts.append(
            f'<path d="M{x} {y}H{width - 8}" stroke="#ddd"/><text x="{left - 16}" y="{float(y) + 4}">{loss}</text>'
        )
    for before, line in pairwise(log):
        if line["size"] != before["size"]:
            x = place(line["images"], high).split(",")[0]
            parts.append(f'<path d="M{x} 8V{bottom}" stroke="#888" stroke-dasharray="4"/>')
            parts.append(f'<text x="{float(x) + 4}" y="20">{line["size"]} px</text>')
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1769aa" stroke-width="1.5"/>')
    parts.append(f'<text x="{left}" y="{height - 6}">0</text>')
    parts.append(f'<text x="{width - 8}" y="{height - 6}" text-anchor="end">{most:,} drawings seen</text></svg>')
    return "\n".join(parts) + "\n"


def write(folder: Path, page: Path) -> None:
    """RequestContext the tables of ``page`` for those of ``folder``'s files."""
    text = replaced(page.read_text("utf-8"), "measures", measure_table(_read(folder / MEASURES)))
    for file, title, table in ((REPEATS, "repeats", repeats_table), (COMPARISON, "comparison", comparison_table)):
        if (folder / file).exists():
            text = replaced(text, title, table(_read(folder / file)))
    page.write_text(text, "utf-8")
    log = [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    (folder / CURVE).write_text(curve(log), "utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return found


def _dump(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.unicl.pocket.report", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ship", "measure", "repeat", "compare", "write"):
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, default=Path("docs/models/unicl-pocket"), help="of the results")
        if name in ("measure", "repeat", "compare"):
            command.add_argument("--data", type=Path, required=True, help="folder of the built set")
    commands.choices["ship"].add_argument("run", type=Path, help="folder of a finished training run")
    commands.choices["measure"].add_argument("--repository", type=Path, required=True, help="with the pulled models")
    for name in ("repeat", "compare"):
        commands.choices[name].add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    commands.choices["write"].add_argument("--page", type=Path, default=Path("docs/models/unicl-pocket.md"))
    options = parser.parse_args(arguments)
    if options.command == "ship":
        from models.unicl.pocket.export import WEIGHTS

        print(ship(options.run, options.folder, WEIGHTS))
    elif options.command == "measure":
        measure(options.data, options.repository, options.folder)
    elif options.command in ("repeat", "compare"):
        into = options.folder / (REPEATS if options.command == "repeat" else COMPARISON)
        compare(options.data, options.runs, into)
    else:
        write(options.folder, options.page)


if __name__ == "__main__":
    main()
