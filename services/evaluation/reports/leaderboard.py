"""One table out of many benchmark jobs: which model, adapted how, is best on a suite. The gateway asks it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from services.evaluation.reports.results import Cell, parameter_efficiency

View = Literal["score", "parameters", "shots"]
Mode = Literal["strict", "reference"]
Way = tuple[str, str, int | None, str | None, str | None]
"""Model, protocol, shots, and the protocol's method and start: jobs may bring protocols under any name."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a leaderboard reads of one finished job: its id, what it ran on, and its cells."""

    job: str
    suite: str
    mode: Mode
    datasets: tuple[str, ...]
    averaged: tuple[str, ...]
    test_limit: int | None
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, job: str, result: Mapping[str, Any]) -> Run:
        """From a benchmark job's result."""
        return cls(
            job=job,
            suite=result["suite"],
            mode=result["mode"],
            datasets=tuple(result["datasets"]),
            averaged=tuple(result["averaged"]),
            test_limit=result.get("test_limit"),
            cells=tuple(cell_of(cell) for cell in result["cells"]),
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """One line: a way of working and what it reaches. ``average`` is over the suite's sets that it was run on.

    ``complete`` says whether those are all of them; only complete lines have a place. ``efficiency`` is the average
    weighed by ELEVATER's measure of trained parameters.
    """

    place: int | None
    model: str
    protocol: str
    method: str | None
    init: str | None
    shots: int | None
    average: float
    stderr: float
    efficiency: float
    trainable: float
    complete: bool
    cells: tuple[tuple[str, Cell], ...]
    """Each with the job that it comes from."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a model and protocol gain by shots: ``(shots, average)`` over the sets that all points share."""

    model: str
    protocol: str
    points: tuple[tuple[int | None, float], ...]


def cell_of(content: Mapping[str, Any]) -> Cell:
    """A cell from its JSON form; fields that a later version added are left out."""
    known = {name: content[name] for name in Cell.__dataclass_fields__ if name in content}
    return Cell(**{**known, "seeds": tuple(content["seeds"]), "scores": tuple(content["scores"])})


def standings(
    runs: Iterable[Run], datasets: Sequence[str], view: View = "score", beside: Sequence[str] = ()
) -> list[Standing]:
    """Lines over ``datasets``, best first; of a cell that several jobs have, the newest counts (``runs`` oldest first).

    ``beside`` are sets that are shown and outside of the average; a line that has no others is averaged over them, and
    has no place.
    ``view`` ``score`` sorts by the average, ``parameters`` by efficiency, ``shots`` by few shots first, then score.
    """
    newest: dict[Way, dict[str, tuple[str, Cell]]] = {}
    for run in runs:
        for cell in run.cells:
            way = (cell.model, cell.protocol, cell.shots, cell.method, cell.init)
            newest.setdefault(way, {})[cell.dataset] = (run.job, cell)

    lines = [
        _line(way, own, datasets, beside)
        for way, own in newest.items()
        if any(name in own for name in (*datasets, *beside))
    ]
    lines.sort(key=_order(view))
    return placed(lines)


def growth(lines: Iterable[Standing]) -> list[Growth]:
    """Sample efficiency: every model and protocol that was adapted to more than one number of shots."""
    groups: dict[tuple[str, str, str | None, str | None], list[Standing]] = {}
    for line in lines:
        if line.method is not None:
            groups.setdefault((line.model, line.protocol, line.method, line.init), []).append(line)

    found = []
    for (model, protocol, _, _), own in groups.items():
        shared = set.intersection(*({cell.dataset for _, cell in line.cells} for line in own))
        if len(own) < 2 or not shared:
            continue
        points = [
            (line.shots, fmean(cell.mean for _, cell in line.cells if cell.dataset in shared))
            for line in sorted(own, key=lambda line: math.inf if line.shots is None else line.shots)
        ]
        found.append(Growth(model, protocol, tuple(points)))

    return found


def _line(way: Way, own: Mapping[str, tuple[str, Cell]], datasets: Sequence[str], beside: Sequence[str]) -> Standing:
    counted = tuple(own[name] for name in datasets if name in own)
    others = tuple(own[name] for name in beside if name in own)
    kept = counted or others
    first = kept[0][1]
    average = fmean(cell.mean for _, cell in kept)
    trainable = fmean(cell.trainable for _, cell in kept)

    return Standing(
        place=None,
        model=way[0],
        protocol=way[1],
        method=first.method,
        init=first.init,
        shots=way[2],
        average=average,
        stderr=math.sqrt(sum(cell.stderr**2 for _, cell in kept)) / len(kept),
        efficiency=parameter_efficiency(average, trainable),
        trainable=trainable,
        complete=len(counted) == len(datasets),
        cells=(*counted, *others),
    )


def _order(view: View) -> Callable[[Standing], tuple[float, ...]]:
    def key(line: Standing) -> tuple[float, ...]:
        value = line.efficiency if view == "parameters" else line.average
        few = (math.inf if line.shots is None else line.shots) if view == "shots" else 0.0
        return (not line.complete, few, -value)

    return key


def placed(lines: list[Standing]) -> list[Standing]:
    """The same order with places from 1; complete lines come first."""
    return [replace(line, place=number + 1) if line.complete else line for number, line in enumerate(lines)]
