"""A typed table in memory, searched by belief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rapidfuzz import fuzz

from services.dialog.acts import Belief, without_indifference
from services.dialog.schema import Database, Matches, Schema
from services.dialog.values import CLOSE, canonical, closest, is_of, number_of, plain, time_of
from services.errors import Kind, Problem

Row = Mapping[str, str]
"""Column to value, as the file has it; empty where the row has none."""


class Table:
    """Rows of one table, none of which can change.

    >>> from services.dialog.schema import Database
    >>> cafes = Table(Database(table="cafes", primary_key="id", name="name",
    ...     columns={"id": "text", "name": "text", "area": "text"}), [{"id": "1", "name": "Uno", "area": "north"}])
    >>> [row["name"] for row in cafes.where({"area": ("eq", "North")})]
    ['Uno']
    """

    def __init__(self, spec: Database, rows: Sequence[Row]) -> None:
        """Raises ``database-row`` for a value that is not of its column's type, or a key that two rows have."""
        self.spec = spec
        self.rows = [dict(row) for row in rows]
        self._check_types()
        self._plain = [{column: canonical(row[column], kind) for column, kind in spec.columns.items()} for row in rows]
        self._equal: dict[str, dict[str, list[int]]] = {}
        self._by_key = self._keys()

    def where(self, constraints: Mapping[str, tuple[str, str]]) -> list[Row]:
        """Rows for which every ``column: (operator, value)`` holds, in the order of the file."""
        found: set[int] | None = None
        for column, (operator, value) in constraints.items():
            rows = self._rows_with(column, operator, value)
            found = rows if found is None else found & rows
            if not found:
                return []
        numbers = range(len(self.rows)) if found is None else sorted(found)
        return [self.rows[number] for number in numbers]

    def matching(self, schema: Schema, belief: Belief) -> list[Row]:
        """Rows that fit what is believed; slots without a column constrain nothing."""
        constraints: dict[str, tuple[str, str]] = {}
        for name, value in without_indifference(belief).items():
            column = schema.slot(name).column
            if column is not None:
                constraints[column] = (self.spec.operators.get(name, "eq"), value)
        return self.where(constraints)

    def row(self, key: str) -> Row | None:
        """The row with that primary key."""
        number = self._by_key.get(plain(key))
        return None if number is None else self.rows[number]

    def values(self, column: str) -> list[str]:
        """Each value of a column once, in the order of the file; what is empty is left out."""
        return list(dict.fromkeys(row[column] for row in self._plain if row[column]))

    def snap(self, column: str, said: str, least: float = CLOSE) -> str | None:
        """The value of ``column`` that was most likely meant by ``said``."""
        index = self._index(column)
        if plain(said) in index:
            return plain(said)
        found = closest(said, index, least)
        return None if found is None else found[0]

    def _rows_with(self, column: str, operator: str, value: str) -> set[int]:
        kind = self.spec.columns[column]
        wanted = canonical(value, kind)
        if operator == "eq":
            return set(self._index(column).get(wanted, ()))
        if operator == "fuzzy":
            index = self._index(column)
            if wanted in index:
                return set(index[wanted])
            like = [one for one in index if fuzz.ratio(wanted, one) >= CLOSE]
            return {number for one in like for number in index[one]}

        def at(text: str) -> float | str | None:
            return number_of(text) if kind == "number" else time_of(text) if kind == "time" else text

        bound = at(wanted)
        if bound is None:
            return set()
        found = set()
        for one, numbers in self._index(column).items():
            place = at(one)
            if type(place) is not type(bound):
                continue
            holds = place <= bound if operator == "le" else place >= bound  # type: ignore[operator]
            if one and holds:
                found.update(numbers)
        return found

    def _index(self, column: str) -> dict[str, list[int]]:
        if column not in self._equal:
            index: dict[str, list[int]] = {}
            for number, row in enumerate(self._plain):
                index.setdefault(row[column], []).append(number)
            index.pop("", None)
            self._equal[column] = index
        return self._equal[column]

    def _check_types(self) -> None:
        for number, row in enumerate(self.rows, 1):
            for column, kind in self.spec.columns.items():
                if column not in row:
                    raise _bad_row(number, column, "has no such column", "Give every row every column.")
                if row[column] and not is_of(row[column], kind):
                    shown = row[column][:40]
                    raise _bad_row(
                        number,
                        column,
                        f"is {shown!r}, no {kind}",
                        f"Mend it, or call the column `text` instead of `{kind}`.",
                    )

    def _keys(self) -> dict[str, int]:
        keys: dict[str, int] = {}
        for number, row in enumerate(self.rows):
            key = plain(row[self.spec.primary_key])
            if not key or key in keys:
                said = "is empty" if not key else f"is {key!r}, as in row {keys[key] + 1}"
                raise _bad_row(number + 1, self.spec.primary_key, said, "Every row needs a key of its own.")
            keys[key] = number
        return keys


def bucket(count: int, few: int) -> Matches:
    """How many rows there are, as flows ask.

    >>> [bucket(count, 4) for count in (0, 1, 4, 5)]
    ['zero', 'one', 'few', 'many']
    """
    return "zero" if count == 0 else "one" if count == 1 else "few" if count <= few else "many"


def _bad_row(number: int, column: str, said: str, remedy: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "database-row",
        "A row cannot be used",
        f"Row {number}: {column!r} {said}.",
        pointer=f"/database/{number - 1}/{column}",
        remedy=remedy,
    )
