"""Dialogs to turns to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.dialog.acts import Act
from services.dialog.sentences import Span
from services.dialog.simulator.dialog import Dialog


@dataclass(frozen=True, slots=True)
class Example:
    """What a user said after ``system``, and what it means. ``weight`` is how much it counts beside the others."""

    text: str
    system: tuple[Act, ...]
    acts: tuple[Act, ...]
    spans: tuple[Span, ...]
    weight: float = 1.0


def examples(dialogs: Iterable[Dialog], weight: float = 1.0) -> Iterator[Example]:
    """Every turn of ``dialogs``, in their order."""
    for dialog in dialogs:
        system: tuple[Act, ...] = ()
        for turn in dialog.turns:
            yield Example(turn.user, system, turn.user_acts, turn.spans, weight)
            system = turn.system_acts


def distinct(turns: Iterable[Example], most: int) -> list[Example]:
    """The first ``most`` turns that differ in text or context: the same twice teaches nothing."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    kept: list[Example] = []
    for turn in turns:
        key = turn.text, tuple(act.key for act in turn.system)
        if key in seen:
            continue
        seen.add(key)
        kept.append(turn)
        if len(kept) == most:
            break
    return kept
