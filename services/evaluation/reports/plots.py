"""Plots of a benchmark as PNG: score against shots, score against trained parameters, and one bar a data set.

matplotlib belongs to the ``train`` extra; where it is not installed there are no plots.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from services.evaluation.plan import shots_name
from services.evaluation.reports.results import Cell

MOST_BARS = 120
COLUMNS, LINE = 2, 0.2
"""Of the legend, and the height in inches of one of its lines."""
HATCHES = ("", "//", "..", "xx", "\\\\", "oo")
"""One for each number of shots: bars of one colour are of one model and protocol."""

Curve = dict[int, float]
Maker = Callable[[Any, Sequence[Cell]], bool]


def draw(table: Sequence[Cell]) -> dict[str, bytes]:
    """By file name; a plot that would show nothing is left out."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    pictures = {}
    for name, maker in MAKERS.items():
        figure = Figure(layout="constrained")
        if fill(figure, maker, table):
            out = io.BytesIO()
            figure.savefig(out, format="png", dpi=110)
            pictures[name] = out.getvalue()
    return pictures


def fill(figure: Any, maker: Maker, table: Sequence[Cell]) -> bool:
    """Draw one plot, its legend below it; whether it shows anything."""
    axes = figure.add_subplot()
    shown = maker(axes, table)
    handles, labels = axes.get_legend_handles_labels()
    figure.set_size_inches(9, 5 + LINE * math.ceil(len(labels) / COLUMNS))
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=COLUMNS, fontsize="small")
    return shown


def _colours(table: Sequence[Cell]) -> dict[tuple[str, str], Any]:
    """One of twenty a model and protocol, the ten that differ most first."""
    from matplotlib import colormaps

    ways = dict.fromkeys((cell.model, cell.protocol) for cell in table)
    return {way: colormaps["tab20"].colors[(2 * n + n // 10) % 20] for n, way in enumerate(ways)}  # type: ignore[attr-defined]


def curves(table: Sequence[Cell]) -> dict[tuple[str, str], Curve]:
    """Means of every model and protocol by shots, -1 for all images, over the data sets that all its points have."""
    groups: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for cell in table:
        shots = -1 if cell.shots is None else cell.shots
        groups.setdefault((cell.model, cell.protocol), {}).setdefault(shots, {})[cell.dataset] = cell.mean
    found = {}
    for key, points in groups.items():
        shared = set.intersection(*(set(own) for own in points.values()))
        if shared:
            found[key] = {shots: fmean(own[name] for name in shared) for shots, own in points.items()}
    return found


def _shots(axes: Any, table: Sequence[Cell]) -> bool:
    """A line a protocol; zero-shot is a level line."""
    highest = max((cell.shots or 0 for cell in table), default=0)
    drawn, colours = False, _colours(table)
    for (model, protocol), points in curves(table).items():
        label, colour = f"{model}, {protocol}", colours[model, protocol]
        if set(points) == {0}:
            axes.axhline(100 * points[0], linestyle="--", linewidth=1, label=label, color=colour)
            continue
        places = sorted((2 * highest if shots < 0 else shots, score) for shots, score in points.items())
        axes.plot([x for x, _ in places], [100 * y for _, y in places], marker="o", label=label, color=colour)
        drawn = True

    whole = " (all images at the right end)" if any(cell.shots is None for cell in table) else ""
    axes.set(xlabel=f"images of a class{whole}", ylabel="score, mean over data sets (%)")
    return drawn


def _parameters(axes: Any, table: Sequence[Cell]) -> bool:
    groups: dict[tuple[str, str, int | None], list[Cell]] = {}
    for cell in table:
        if cell.trainable > 0:
            groups.setdefault((cell.model, cell.protocol, cell.shots), []).append(cell)
    colours, known = _colours(table), set()
    for (model, protocol, shots), own in groups.items():
        x, y = fmean(cell.trainable for cell in own), 100 * fmean(cell.mean for cell in own)
        label = "_" if (model, protocol) in known else f"{model}, {protocol}"  # one that begins so is in no legend
        known.add((model, protocol))
        axes.scatter(x, y, color=[colours[model, protocol]], label=label)
        axes.annotate(shots_name(shots), (x, y), xytext=(5, 3), textcoords="offset points", fontsize="x-small")
    axes.set(xscale="log", xlabel="trained parameters", ylabel="score, mean over data sets (%); beside it the shots")
    return bool(groups)


def _datasets(axes: Any, table: Sequence[Cell]) -> bool:
    if len(table) > MOST_BARS:
        return False

    datasets = list(dict.fromkeys(cell.dataset for cell in table))
    ways = list(dict.fromkeys((cell.model, cell.protocol, cell.shots) for cell in table))
    width, colours = 0.8 / max(1, len(ways)), _colours(table)
    shots = sorted({math.inf if cell.shots is None else cell.shots for cell in table})
    for place, way in enumerate(ways):
        own = [cell for cell in table if (cell.model, cell.protocol, cell.shots) == way]
        axes.bar(
            [datasets.index(cell.dataset) + place * width for cell in own],
            [100 * cell.mean for cell in own],
            width,
            yerr=[100 * cell.stderr for cell in own],
            capsize=2,
            color=colours[way[0], way[1]],
            hatch=HATCHES[shots.index(math.inf if way[2] is None else way[2]) % len(HATCHES)],
            label=f"{way[0]}, {way[1]}" + ("" if way[2] == 0 else f", {shots_name(way[2])}-shot"),
        )

    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(datasets))], datasets)
    axes.set_ylabel("score (%), with standard errors")
    return bool(table)


MAKERS: dict[str, Maker] = {"shots.png": _shots, "parameters.png": _parameters, "datasets.png": _datasets}
