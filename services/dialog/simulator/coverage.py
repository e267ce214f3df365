"""What a set of dialogs covers of the flow it was made from, and how alike its texts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from services.dialog.schema import Schema
from services.dialog.simulator.dialog import Dialog


@dataclass(frozen=True, slots=True)
class Coverage:
    """``nodes`` and ``edges`` are shares of the flow's, ``unvisited`` names the rest of the nodes.

    ``act_sequences`` counts different courses of a dialog, ``distinct`` is different n-grams by all, for words and
    pairs of words of the users' texts.
    """

    dialogs: int
    turns: int
    success: float
    nodes: float
    edges: float
    unvisited: tuple[str, ...]
    act_sequences: int
    texts: int
    distinct: tuple[float, float]


def coverage(schema: Schema, dialogs: Iterable[Dialog]) -> Coverage:
    """The report of a set of dialogs."""
    visited: set[str] = set()
    passed: set[int] = set()
    courses: set[tuple[str, ...]] = set()
    texts: set[str] = set()
    grams = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    count = turns = successes = 0

    for dialog in dialogs:
        count += 1
        successes += dialog.success
        for turn in dialog.turns:
            turns += 1
            visited.update(turn.path)
            passed.update(turn.edges)
            texts.add(turn.user)
            words = turn.user.split()
            grams[0].update((word,) for word in words)
            grams[1].update(pairwise(words))
        courses.add(tuple(act.key for turn in dialog.turns for act in (*turn.user_acts, *turn.system_acts)))

    nodes = [node.id for node in schema.flow.nodes]
    return Coverage(
        dialogs=count,
        turns=turns,
        success=successes / count if count else 0.0,
        nodes=len(visited & set(nodes)) / len(nodes),
        edges=len(passed) / len(schema.flow.edges) if schema.flow.edges else 1.0,
        unvisited=tuple(name for name in nodes if name not in visited),
        act_sequences=len(courses),
        texts=len(texts),
        distinct=(_distinct(grams[0]), _distinct(grams[1])),
    )


def _distinct(counted: Counter[tuple[str, ...]]) -> float:
    total = sum(counted.values())
    return len(counted) / total if total else 0.0
