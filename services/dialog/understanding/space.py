"""What the heads of one schema tell apart: names of classes, and the numbers of a context and of a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.dialog.acts import SYSTEM_ACTS, USER_ACTS, Act
from services.dialog.schema import Schema
from services.dialog.sentences import Span

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Space:
    """``spanned`` slots are found as spans of a text, ``chosen`` are pairs of a yes-or-no slot and its value,
    ``requestable`` are asked for. Everything else follows from their order."""

    spanned: tuple[str, ...]
    chosen: tuple[tuple[str, str], ...]
    informable: tuple[str, ...]
    requestable: tuple[str, ...]

    @staticmethod
    def of(schema: Schema) -> Space:
        """The space of a schema."""
        yes_no = [slot.name for slot in schema.informable if slot.type == "bool"]
        return Space(
            spanned=tuple(slot.name for slot in schema.informable if slot.type != "bool"),
            chosen=tuple((name, value) for name in yes_no for value in ("yes", "no")),
            informable=tuple(slot.name for slot in schema.informable),
            requestable=tuple(slot.name for slot in schema.slots if slot.requestable),
        )

    @property
    def tags(self) -> int:
        """Classes of a token: outside, and first and later ones of each slot."""
        return 1 + 2 * len(self.spanned)

    @property
    def turns(self) -> int:
        """Yes-or-no questions about a whole turn."""
        return len(USER_ACTS) + len(self.informable) + len(self.requestable) + len(self.chosen)

    @property
    def context_size(self) -> int:
        """Numbers that say what the bot did before."""
        return len(SYSTEM_ACTS) + 2 * len(self.informable) + 1

    def context(self, system: Iterable[Act]) -> NDArray[np.float32]:
        """``(context_size,) float32`` of the bot's last acts: which, what was requested, what was to be confirmed."""
        row = np.zeros(self.context_size, np.float32)
        place = {name: index for index, name in enumerate(self.informable)}
        first, second = len(SYSTEM_ACTS), len(SYSTEM_ACTS) + len(self.informable)
        acts = list(system)
        for act in acts:
            row[SYSTEM_ACTS.index(act.name)] = 1
            if act.name == "request" and act.slot in place:
                row[first + place[act.slot]] = 1
            elif act.name == "confirm" and act.slot in place:
                row[second + place[act.slot]] = 1
        row[-1] = not acts
        return row

    def turn_labels(self, acts: Iterable[Act]) -> NDArray[np.float32]:
        """``(turns,) float32`` of zeros and ones."""
        row = np.zeros(self.turns, np.float32)
        first = len(USER_ACTS)
        second = first + len(self.informable)
        third = second + len(self.requestable)
        for act in acts:
            row[USER_ACTS.index(act.name)] = 1
            if act.name == "dont_care" and act.slot in self.informable:
                row[first + self.informable.index(act.slot)] = 1
            elif act.name == "request" and act.slot in self.requestable:
                row[second + self.requestable.index(act.slot)] = 1
            elif act.name == "inform" and (act.slot, act.value) in self.chosen:
                row[third + self.chosen.index((act.slot, act.value))] = 1
        return row

    def token_labels(self, spans: Iterable[Span], offsets: Offsets) -> NDArray[np.int64]:
        """``(L,) int64``: 0 outside, ``1 + 2 s`` where slot ``s`` begins, ``2 + 2 s`` where it goes on."""
        row = np.zeros(len(offsets), np.int64)
        for span in spans:
            if span.slot not in self.spanned:
                continue
            slot, begun = self.spanned.index(span.slot), False
            for index, (start, end) in enumerate(offsets):
                if start < span.end and end > span.start and end > start:
                    row[index] = 2 + 2 * slot if begun else 1 + 2 * slot
                    begun = True
        return row
