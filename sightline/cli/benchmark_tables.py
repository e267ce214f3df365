"""Benchmarks as tables in the terminal. Scores in percent, with standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.cli.output import console, table

if TYPE_CHECKING:
    from rich.text import Text

    from sightline.client import Comparison, Leaderboard


def print_cells(result: Mapping[str, Any]) -> None:
    """The results of one benchmark; what failed goes to standard error."""
    rows = [
        (
            cell["dataset"],
            cell["model"],
            cell["protocol"],
            _told_shots(cell["shots"]),
            cell["metric"],
            _percent(cell["mean"], cell["stderr"]),
            _interval(cell["low"], cell["high"]),
            f"{cell['trainable']:,.0f}",
        )
        for cell in result.get("cells", ())
    ]
    columns = ("data set", "model", "protocol", "shots", "metric", "score", "95 % over seeds", "trained")
    table(columns, rows, right=("shots", "score", "95 % over seeds", "trained"))
    units: dict[str, list[str]] = {}
    for error in result.get("errors", ()):
        told = " ".join(filter(None, (error.get("detail") or error.get("title", ""), error.get("remedy"))))
        units.setdefault(told, []).append(error["unit"])

    for told, own in units.items():
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        console(errors=True).print(f"{own[0]}{more}: {told}")


def print_leaderboard(found: Leaderboard) -> None:
    """A line a way of working, a column a data set, and the curves by shots."""
    from rich.text import Text

    if not found.standings:
        console().print(f"No finished benchmark of yours on {found.suite} ({found.mode}) yet.")
        return
    rows: list[list[str | Text]] = []
    for line in found.standings:
        by_set = {score.dataset: score for score in line.scores}
        cells = [_percent(by_set[name].mean, by_set[name].stderr) if name in by_set else "-" for name in found.datasets]
        average = Text(
            _percent(line.average, line.stderr), "bold" if line.place == 1 else "" if line.complete else "dim"
        )
        efficiency = f"{100 * line.parameter_efficiency:.1f}"
        place = "-" if line.place is None else str(line.place)
        rows.append(
            [
                place,
                line.model,
                line.protocol,
                _told_shots(line.shots),
                average,
                efficiency,
                f"{line.trainable_parameters:,.0f}",
                *cells,
            ]
        )
    columns = ("", "model", "protocol", "shots", "average", "efficiency", "trained", *found.datasets)
    table(columns, rows, right=("", "shots", "average", "efficiency", "trained", *found.datasets))
    for curve in found.curves:
        points = ", ".join(f"{_told_shots(shots)}: {100 * average:.1f}" for shots, average in curve.points)
        console().print(f"{curve.model}, {curve.protocol} by shots: {points}")


def print_comparison(found: Comparison) -> None:
    """A line a difference; those that chance does not explain are bold."""
    from rich.text import Text

    rows = [
        (
            own.dataset,
            own.protocol,
            _told_shots(own.shots),
            f"{own.left_model} {100 * own.left:.1f}",
            f"{own.right_model} {100 * own.right:.1f}",
            Text(f"{100 * own.difference:+.1f} ± {100 * own.stderr:.1f}", "bold" if own.significant else "dim"),
            f"{own.p:.3g}",
        )
        for own in found.differences
    ]
    table(
        ("data set", "protocol", "shots", "left", "right", "difference", "p"), rows, right=("shots", "difference", "p")
    )
    console().print(f"Mean difference {100 * found.mean_difference:+.2f} points. {found.note}")


def _percent(mean: float, stderr: float) -> str:
    return f"{100 * mean:.1f} ± {100 * stderr:.1f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _told_shots(shots: int | None) -> str:
    return "full" if shots is None else str(shots)
