"""Values of a schema that stand in a text word for word: what is known needs no guess."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.dialog.database.table import Table
from services.dialog.schema import Schema
from services.dialog.values import canonical, closest, plain, time_of

_WORD = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")
_LONGEST = 8
_TIMES = re.compile(
    r"\b(?:half past \w+|(?:a )?quarter (?:past|to) \w+|\d{1,2}[:.]\d{2}(?: ?[ap]\.?m\b\.?)?|\d{1,2} ?[ap]\.?m\b\.?|"
    r"\w+ (?:o'?clock|[ap]m\b)|noon|midday|midnight)"
)
"""Times of day, whatever was learnt: their forms are few and known."""
SNAP = 86.0
"""Likeness from which a span that was found is taken for a known value."""


@dataclass(frozen=True, slots=True)
class Found:
    """A known value in a text. ``slots`` are those that have it, and what it is called there."""

    start: int
    end: int
    slots: dict[str, str]


class Lexicon:
    """All values of a schema and its rows, with their synonyms."""

    def __init__(self, schema: Schema, table: Table | None) -> None:
        self._entries: dict[tuple[str, ...], dict[str, str]] = {}
        self._values: dict[str, dict[str, str]] = {}
        self._kinds = {slot.name: slot.type for slot in schema.slots}
        for slot in schema.informable:
            if slot.type in ("number", "time", "bool"):
                continue
            values = list(slot.values or (table.values(slot.column) if table and slot.column else ()))
            said = {plain(value): canonical(value, slot.type) for value in values}
            for value, others in slot.synonyms.items():
                said |= {plain(other): canonical(value, slot.type) for other in others}
            self._values[slot.name] = said
            for words, value in said.items():
                self._entries.setdefault(tuple(_WORD.findall(words)), {})[slot.name] = value
        self._entries.pop((), None)
        self._timed = [slot.name for slot in schema.informable if slot.type == "time"]
        self._closed = {slot.name for slot in schema.informable if slot.values is not None}

    def find(self, text: str) -> Iterator[Found]:
        """Known values in ``text``, the longest at each place, none over another."""
        lower = text.lower()
        times = [found for found in _TIMES.finditer(lower) if self._timed and time_of(found.group())]
        for time in times:
            yield Found(time.start(), time.end(), dict.fromkeys(self._timed, time_of(time.group()) or ""))

        words = [(found.start(), found.end(), found.group()) for found in _WORD.finditer(lower)]
        words = [word for word in words if all(word[1] <= time.start() or word[0] >= time.end() for time in times)]
        place = 0
        while place < len(words):
            for length in range(min(_LONGEST, len(words) - place), 0, -1):
                key = tuple(word for _, _, word in words[place : place + length])
                if key in self._entries:
                    yield Found(words[place][0], words[place + length - 1][1], self._entries[key])
                    place += length - 1
                    break
            place += 1

    def value(self, slot: str, said: str) -> str | None:
        """What was meant by ``said`` for ``slot``: the known value most like it, or it itself where any is allowed.

        ``None`` for what a categorical slot does not have.
        """
        known = self._values.get(slot)
        if known is None:
            return canonical(said, self._kinds[slot])
        if plain(said) in known:
            return known[plain(said)]
        like = closest(said, known, SNAP) if known else None
        if like is not None:
            return known[like[0]]
        return None if slot in self._closed else canonical(said, self._kinds[slot])
