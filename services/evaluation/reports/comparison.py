"""Two benchmark jobs against each other, data set by data set, with a word on what chance could have done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from services.evaluation.reports.leaderboard import Run
from services.evaluation.reports.results import Cell

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """``right`` minus ``left`` on one data set; ``p`` is two-sided, of a normal with both standard errors."""

    dataset: str
    protocol: str
    shots: int | None
    left: Cell
    right: Cell
    difference: float
    stderr: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True, slots=True)
class Comparison:
    """All shared cells; ``p_signs`` is of the exact sign test over them, absent where nothing differs."""

    differences: tuple[Difference, ...]
    mean_difference: float
    wins: int
    losses: int
    p_signs: float | None
    note: str


def compare(left: Run, right: Run) -> Comparison:
    """Cells of the same data set, protocol, shots and, where both have it, model; else the better model of each."""
    found = []
    for key, own in _grouped(left.cells).items():
        theirs = _grouped(right.cells).get(key)
        if theirs is None:
            continue
        shared = [name for name in own if name in theirs]
        pairs = [(own[name], theirs[name]) for name in shared] or [(_best(own.values()), _best(theirs.values()))]
        found += [_difference(one, other) for one, other in pairs]

    wins, losses = sum(own.difference > 0 for own in found), sum(own.difference < 0 for own in found)
    return Comparison(
        tuple(found),
        fmean(own.difference for own in found) if found else 0.0,
        wins,
        losses,
        sign_test(wins, losses),
        _note(found, wins, losses, left, right),
    )


def sign_test(wins: int, losses: int) -> float | None:
    """Two-sided exact probability of a split at least as uneven, if both were equally likely."""
    n = wins + losses
    if n == 0:
        return None
    tail: float = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _grouped(cells: Iterable[Cell]) -> dict[tuple[str, str, int | None], dict[str, Cell]]:
    groups: dict[tuple[str, str, int | None], dict[str, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.dataset, cell.protocol, cell.shots), {})[cell.model] = cell
    return groups


def _best(cells: Iterable[Cell]) -> Cell:
    return max(cells, key=lambda cell: cell.mean)


def _difference(left: Cell, right: Cell) -> Difference:
    gap, error = right.mean - left.mean, math.hypot(left.stderr, right.stderr)
    p = (1.0 if gap == 0 else 0.0) if error == 0 else math.erfc(abs(gap) / error / math.sqrt(2))
    return Difference(left.dataset, left.protocol, left.shots, left, right, gap, error, p)


def _note(found: list[Difference], wins: int, losses: int, left: Run, right: Run) -> str:
    if not found:
        return "The two runs share no data set, protocol and number of shots."

    clear = sum(own.significant for own in found)
    p = sign_test(wins, losses)
    note = (
        f"{clear} of {len(found)} differences are larger than chance explains at the {LEVEL:.0%} level (each by "
        f"itself; about {LEVEL * len(found):.1f} would be by chance alone). "
    )
    if p is not None:
        note += f"Better {wins} times, worse {losses} times: sign test p = {p:.3g}. "

    note += "Both are measured on the same test images, so the intervals err on the wide side."
    if left.mode != right.mode:
        note += " One run is strict, the other repeats the reference and its picks on test images: not comparable."

    if left.test_limit != right.test_limit:
        note += " They were tested on different numbers of images."

    return note
