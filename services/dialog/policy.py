"""The flow of a schema, walked: from what the user did and what is believed to what the bot does next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.dialog.acts import Act, Belief
from services.dialog.database.table import Row, Table, bucket
from services.dialog.schema import SPEAKING, Action, Edge, Guard, Node, Schema

_MOST_SELECTED = 3

Call = Callable[[Action, Mapping[str, str]], Mapping[str, str] | None]
"""Carries an action out with its slots; its results, or ``None`` where it failed."""


@dataclass(slots=True)
class State:
    """Where a dialog stands beside its belief. ``offered`` and ``rejected`` are primary keys of rows.

    ``results`` are what actions gave; ``called`` and ``failed`` name actions.
    """

    node: str
    offered: str = ""
    rejected: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What the bot does: acts, the nodes and edges that were passed, the rows that fit, and what may be said."""

    acts: tuple[Act, ...]
    path: tuple[str, ...]
    edges: tuple[int, ...]
    rows: tuple[Row, ...]
    values: Mapping[str, str]
    action: str = ""
    understood: bool = True


class Policy:
    """Walks one schema over one table. Keeps nothing between turns: :class:`State` does."""

    def __init__(self, schema: Schema, table: Table | None) -> None:
        self.schema = schema
        self.table = table
        self._nodes = {node.id: node for node in schema.flow.nodes}
        self._after: dict[str, list[tuple[int, Edge]]] = {node.id: [] for node in schema.flow.nodes}
        for number, edge in enumerate(schema.flow.edges):
            self._after[edge.source].append((number, edge))

        self._slot_of = {slot.column: slot.name for slot in schema.slots if slot.column}
        self._name_slot = self._slot_of.get(schema.database.name, "") if schema.database else ""

    def start(self) -> State:
        """A dialog before its first turn."""
        return State(node=self.schema.flow.start)

    def rows(self, belief: Belief, state: State) -> list[Row]:
        """Rows that fit the belief and were not turned down."""
        if self.table is None:
            return []
        key = self.table.spec.primary_key
        return [row for row in self.table.matching(self.schema, belief) if row[key] not in state.rejected]

    def step(self, state: State, belief: Belief, user: Sequence[Act], call: Call) -> Step:
        """The bot's turn; ``state`` is changed. Where no edge can be taken, it says that it did not understand."""
        names = [act.name for act in user]
        if state.offered and any(name in ("request_alternatives",) for name in names):
            state.rejected.append(state.offered)
            state.offered = ""
        rows = self.rows(belief, state)
        self._keep_offer(state, rows)

        here, path, action = state.node, [state.node], ""
        edges: list[int] = []
        for _ in range(len(self._nodes) + 1):
            taken = self._edge(here, state, belief, user, len(rows))
            if taken is None:
                return Step((Act("cannot_understand"),), tuple(path), tuple(edges), tuple(rows), {}, action, False)
            edges.append(taken[0])
            here = taken[1].target
            path.append(here)
            node = self._nodes[here]
            if node.kind == "call" and node.action is not None:
                action = node.action
                self._call(state, belief, self.schema.action(node.action), call)
            if node.kind in SPEAKING:
                break

        state.node = here
        acts = self._acts(node, state, belief, user, rows)
        return Step(acts, tuple(path), tuple(edges), tuple(rows), self.sayable(state, belief), action)

    def sayable(self, state: State, belief: Belief) -> dict[str, str]:
        """Values that a reply may hold: the belief's, over them those of the offered row and of actions."""
        values = {slot: value for slot, value in belief.items() if value and value != "dont care"}
        row = self.table.row(state.offered) if self.table is not None and state.offered else None
        if row is not None:
            values |= {slot: row[column] for column, slot in self._slot_of.items() if row.get(column)}
        elif self._name_slot:
            values.pop(self._name_slot, None)  # said by the user, not found by us
        return values | state.results

    def _keep_offer(self, state: State, rows: Sequence[Row]) -> None:
        """An offer that no longer fits what the user wants is none."""
        if not state.offered or self.table is None:
            return
        key = self.table.spec.primary_key
        if all(row[key] != state.offered for row in rows):
            state.offered = ""

    def _edge(
        self, here: str, state: State, belief: Belief, user: Sequence[Act], count: int
    ) -> tuple[int, Edge] | None:
        for number, edge in self._after[here]:
            if self._holds(edge.when, state, belief, user, count):
                return number, edge
        return None

    def _holds(self, guard: Guard, state: State, belief: Belief, user: Sequence[Act], count: int) -> bool:
        if any(slot not in belief for slot in guard.filled) or any(slot in belief for slot in guard.missing):
            return False
        if guard.matches:
            few = self.schema.database.few if self.schema.database else 4
            if bucket(count, few) not in guard.matches:
                return False
        if guard.user and not any(wanted in (act.name, act.key) for wanted in guard.user for act in user):
            return False
        if guard.offered is not None and guard.offered != bool(state.offered):
            return False
        if any(name not in state.called for name in guard.called) or any(
            name in state.called for name in guard.not_called
        ):
            return False
        return all(name in state.failed for name in guard.failed)

    def _call(self, state: State, belief: Belief, action: Action, call: Call) -> None:
        known = self.sayable(state, belief)
        slots = {name: known[name] for name in action.required if name in known}
        results = call(action, slots) if len(slots) == len(action.required) else None
        if results is None:
            state.failed = [*dict.fromkeys([*state.failed, action.name])]
            return
        state.failed = [name for name in state.failed if name != action.name]
        state.called = [*dict.fromkeys([*state.called, action.name])]
        state.results |= {name: results[name] for name in action.results if results.get(name)}

    def _acts(
        self, node: Node, state: State, belief: Belief, user: Sequence[Act], rows: Sequence[Row]
    ) -> tuple[Act, ...]:
        if node.kind == "request":
            missing = [slot for slot in node.slots if slot not in belief]
            return tuple(Act("request", slot) for slot in (missing or node.slots))
        if node.kind == "confirm":
            return tuple(Act("confirm", slot, belief[slot]) for slot in node.slots if belief.get(slot))
        if node.kind == "offer":
            return self._offer(node, state, rows)
        if node.kind == "select":
            names = [row[self.table.spec.name] for row in rows[:_MOST_SELECTED]] if self.table is not None else []
            self._offer(node, state, rows)
            return tuple(Act("select", self._name_slot, name) for name in names)
        if node.kind == "inform":
            asked = [act.slot for act in user if act.name == "request"]
            known = self.sayable(state, belief)
            return tuple(Act("inform", slot, known.get(slot, "")) for slot in (node.slots or asked))
        if node.kind == "notify_success":
            told = [slot for slot in node.slots if state.results.get(slot)]
            return (Act("notify_success"), *(Act("inform", slot, state.results[slot]) for slot in told))
        return (Act(node.kind),)

    def _offer(self, node: Node, state: State, rows: Sequence[Row]) -> tuple[Act, ...]:
        if not rows or self.table is None:
            return (Act("no_match"),)
        key = self.table.spec.primary_key
        if not state.offered:
            state.offered = rows[0][key]
        row = self.table.row(state.offered)
        assert row is not None, "an offered row is one of the table's"
        told = [slot for slot in node.slots if (column := self.schema.slot(slot).column) and row.get(column)]
        informed = tuple(Act("inform", slot, row[self.schema.slot(slot).column or ""]) for slot in told)
        return (Act("offer", self._name_slot, row[self.table.spec.name]), *informed)
