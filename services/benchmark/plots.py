"""Plots of a benchmark as PNG: score against shots, score against trained parameters, and one bar a data set.

matplotlib belongs to the ``train`` extra; where it is not installed there are no plots.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from services.benchmark.plan import shots_name
from services.benchmark.results import Cell

MOST_BARS = 120
Curve = dict[int, float]


def draw(table: Sequence[Cell]) -> dict[str, bytes]:
    """By file name; a plot that would show nothing is left out."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    makers: dict[str, Callable[[Any, Sequence[Cell]], bool]] = {
        "shots.png": _shots,
        "parameters.png": _parameters,
        "datasets.png": _datasets,
    }
    pictures = {}
    for name, maker in makers.items():
        figure = Figure(figsize=(8, 5), layout="constrained")
        if maker(figure.add_subplot(), table):
            out = io.BytesIO()
            figure.savefig(out, format="png", dpi=110)
            pictures[name] = out.getvalue()
    return pictures


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
    drawn = False
    for number, ((model, protocol), points) in enumerate(curves(table).items()):
        label, colour = f"{model}, {protocol}", f"C{number % 10}"
        if set(points) == {0}:
            axes.axhline(100 * points[0], linestyle="--", linewidth=1, label=label, color=colour)
            continue
        places = sorted((2 * highest if shots < 0 else shots, score) for shots, score in points.items())
        axes.plot([x for x, _ in places], [100 * y for _, y in places], marker="o", label=label, color=colour)
        drawn = True
    whole = " (all images at the right end)" if any(cell.shots is None for cell in table) else ""
    axes.set(xlabel=f"images of a class{whole}", ylabel="score, mean over data sets (%)")
    axes.legend(fontsize="small")
    return drawn


def _parameters(axes: Any, table: Sequence[Cell]) -> bool:
    groups: dict[tuple[str, str, int | None], list[Cell]] = {}
    for cell in table:
        if cell.trainable > 0:
            groups.setdefault((cell.model, cell.protocol, cell.shots), []).append(cell)
    for (model, protocol, shots), own in groups.items():
        x, y = fmean(cell.trainable for cell in own), 100 * fmean(cell.mean for cell in own)
        axes.scatter(x, y, label=f"{model}, {protocol}, {shots_name(shots)}-shot")
    axes.set(xscale="log", xlabel="trained parameters", ylabel="score, mean over data sets (%)")
    if groups:
        axes.legend(fontsize="small")
    return bool(groups)


def _datasets(axes: Any, table: Sequence[Cell]) -> bool:
    if len(table) > MOST_BARS:
        return False
    datasets = list(dict.fromkeys(cell.dataset for cell in table))
    ways = list(dict.fromkeys((cell.model, cell.protocol, cell.shots) for cell in table))
    width = 0.8 / max(1, len(ways))
    for place, way in enumerate(ways):
        own = [cell for cell in table if (cell.model, cell.protocol, cell.shots) == way]
        axes.bar(
            [datasets.index(cell.dataset) + place * width for cell in own],
            [100 * cell.mean for cell in own],
            width,
            yerr=[100 * cell.stderr for cell in own],
            capsize=2,
            label=f"{way[0]}, {way[1]}" + ("" if way[2] == 0 else f", {shots_name(way[2])}-shot"),
        )
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(datasets))], datasets)
    axes.set_ylabel("score (%), with standard errors")
    axes.legend(fontsize="small")
    return bool(table)
