"""What simulated users want: constraints of a row, sometimes of none, things to ask for, something to book."""

from __future__ import annotations

from random import Random

from services.dialog.acts import DONT_CARE
from services.dialog.database.table import Table
from services.dialog.schema import Schema, Slot
from services.dialog.simulator.dialog import Goal

_SYLLABLES = tuple(first + vowel for first in "bdfgklmnprstvz" for vowel in "aeio")
_NAMED = 0.15
_UNSATISFIABLE = 0.15
_INDIFFERENT = 0.15
_BOOKS = 0.6
_CLOSED = 10
"""Up to so many values people know them all: there are no other parts of a town, and other cuisines."""

_STRANGE = 0.3
"""Of impossible wishes: what no row has at all, so that what is not known is heard too."""


class Goals:
    """Draws goals for one schema and table."""

    def __init__(self, schema: Schema, table: Table | None) -> None:
        self.schema = schema
        self.table = table
        name = schema.database.name if schema.database else None
        needed = {slot for action in schema.actions for slot in action.required}
        self._by_name = next((slot for slot in schema.informable if slot.column == name), None)
        self._searched = [slot for slot in schema.informable if slot.column and slot.column != name]
        self._booked = [slot for slot in schema.informable if slot.column is None and slot.name in needed]
        self._other = [slot for slot in schema.informable if slot.column is None and slot.name not in needed]
        self._asked = [slot.name for slot in schema.slots if slot.requestable and slot.column]
        self._values = {
            slot.name: slot.values or (table.values(slot.column) if table and slot.column else [])
            for slot in schema.slots
        }

    def draw(self, random: Random) -> Goal:
        """One goal."""
        constraints = self._constraints(random)
        relaxed: dict[str, str] = {}
        if self.table is not None and self._searched and random.random() < _UNSATISFIABLE:
            relaxed = dict(constraints)
            constraints = self._impossible(constraints, random)
            relaxed = relaxed if constraints != relaxed else {}

        asked = [slot for slot in self._asked if slot not in constraints]
        requests = random.sample(asked, min(len(asked), random.choice((0, 1, 1, 2, 3))))
        action = random.choice(self.schema.actions) if self.schema.actions and random.random() < _BOOKS else None
        booking = (
            {} if action is None else {s.name: self.value(s, random) for s in self._booked if s.name in action.required}
        )
        return Goal(constraints, tuple(requests), action.name if action else "", booking, relaxed)

    def value(self, slot: Slot, random: Random) -> str:
        """Something that a user could say for ``slot``; for a free one sometimes what no row has."""
        known = self._values[slot.name]
        if slot.type == "categorical" and known:
            strange = slot.values is None and len(known) > _CLOSED and random.random() < _STRANGE
            return invented(random) if strange else random.choice(known)
        if slot.type == "bool":
            return random.choice(("yes", "no"))
        if slot.type == "number":
            return f"{random.randint(int(slot.minimum or 1), int(slot.maximum or 9))}"
        if slot.type == "time":
            return f"{random.randint(7, 21):02d}:{random.choice((0, 15, 30, 45)):02d}"
        if known and random.random() >= self.schema.paraphrase.invented:
            return random.choice(known)
        return invented(random)

    def _constraints(self, random: Random) -> dict[str, str]:
        if self.table is None or not self.table.rows:
            return {slot.name: self.value(slot, random) for slot in [*self._searched, *self._other]}

        row = random.choice(self.table.rows)
        if self._by_name is not None and self._by_name.column and random.random() < _NAMED:
            return {self._by_name.name: row[self._by_name.column].lower()}

        usable = [slot for slot in self._searched if slot.column and row[slot.column]]
        chosen = random.sample(usable, random.randint(min(1, len(usable)), len(usable)))
        constraints = {slot.name: row[slot.column or ""].lower() for slot in usable if slot in chosen}
        for slot in usable:
            if slot not in chosen and random.random() < _INDIFFERENT:
                constraints[slot.name] = DONT_CARE
        return constraints | {slot.name: self.value(slot, random) for slot in self._other}

    def _impossible(self, constraints: dict[str, str], random: Random) -> dict[str, str]:
        """The constraints with one value changed so that no row fits, if a few tries find one."""
        assert self.table is not None, "without rows everything is impossible"
        for _ in range(8):
            slot = random.choice(self._searched)
            changed = constraints | {slot.name: self.value(slot, random)}
            if not self.table.matching(self.schema, changed):
                return changed
        return constraints


def invented(random: Random) -> str:
    """A name that nobody has: ``the rovaki house``."""
    word = "".join(random.choice(_SYLLABLES) for _ in range(random.randint(2, 3)))
    return random.choice((word, f"the {word}", f"{word} house", f"{word} {random.choice(_SYLLABLES)}ston"))
