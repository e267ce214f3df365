"""What a schema must be beyond its form: names that exist, a flow that can be walked to its end.

Every finding points into the document as it was sent, and says what to do. Errors stop a bot from being made;
warnings tell of what will not work as somebody might hope.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from services.dialog.acts import SYSTEM_ACTS, USER_ACTS
from services.dialog.database.table import Table
from services.dialog.schema import SPEAKING, Edge, Schema
from services.dialog.sentences import placeholders

_ACT = re.compile(r"^([a-z_]+)(?:\(([a-z0-9_]+)(?:=[^)]{1,100})?\))?$")


@dataclass(frozen=True, slots=True)
class Finding:
    """``path`` is a JSON pointer into the schema."""

    level: Literal["error", "warning"]
    path: str
    message: str
    remedy: str


def read_schema(document: object) -> tuple[Schema | None, list[Finding]]:
    """A schema out of JSON, with what is wrong with its form; ``None`` where that is something."""
    try:
        return Schema.model_validate(document), []
    except ValidationError as error:
        return None, [
            Finding("error", "/" + "/".join(map(str, one["loc"])), one["msg"], "See `sightline bots schema`.")
            for one in error.errors(include_url=False, include_context=False)[:100]
        ]


def check_schema(schema: Schema, table: Table | None = None) -> list[Finding]:
    """Everything that is wrong with ``schema``, or will not work; with ``table`` its values too. Errors come first."""
    found = [
        *_names_twice(schema),
        *_slots(schema, table),
        *_database(schema),
        *_flow_names(schema),
        *_flow_walk(schema),
        *_actions(schema),
        *_templates(schema),
        *_tokens(schema),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def _error(path: str, message: str, remedy: str) -> Finding:
    return Finding("error", path, message, remedy)


def _warning(path: str, message: str, remedy: str) -> Finding:
    return Finding("warning", path, message, remedy)


def _names_twice(schema: Schema) -> Iterator[Finding]:
    named = (
        ("slots", [slot.name for slot in schema.slots]),
        ("flow/nodes", [node.id for node in schema.flow.nodes]),
        ("actions", [action.name for action in schema.actions]),
    )
    for path, names in named:
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if name in first:
                yield _error(
                    f"/{path}/{index}",
                    f"{name!r} is the name of /{path}/{first[name]} too",
                    "Give it a name of its own.",
                )
            first.setdefault(name, index)


def _slots(schema: Schema, table: Table | None) -> Iterator[Finding]:
    columns = schema.database.columns if schema.database else {}
    for index, slot in enumerate(schema.slots):
        path = f"/slots/{index}"
        if slot.column is not None and slot.column not in columns:
            known = ", ".join(columns) or "no database"
            yield _error(
                f"{path}/column", f"the database has no column {slot.column!r}", f"Name one of its columns: {known}."
            )

        if slot.type == "categorical" and slot.values is None and slot.column is None:
            yield _error(
                path, f"{slot.name!r} is categorical without values", "Give `values`, or a `column` that has them."
            )

        values = set(slot.values or ())
        if table is not None and slot.column in columns and slot.values is None:
            values = set(table.values(slot.column))
        if values:
            for value in slot.synonyms:
                if value not in values:
                    yield _warning(
                        f"{path}/synonyms/{value}",
                        f"{value!r} is no value of {slot.name!r}",
                        "Write the value as it stands in `values` or in the database.",
                    )
        if slot.minimum is not None and slot.maximum is not None and slot.minimum > slot.maximum:
            yield _error(f"{path}/minimum", "the minimum is above the maximum", "Swap them.")
        named = schema.database is not None and slot.column == schema.database.name
        if not (slot.informable or slot.requestable or named or _is_result(schema, slot.name)):
            yield _warning(path, f"nobody can say {slot.name!r} or ask for it", "Make it informable or requestable.")


def _is_result(schema: Schema, slot: str) -> bool:
    return any(slot in action.results for action in schema.actions)


def _database(schema: Schema) -> Iterator[Finding]:
    database = schema.database
    if database is None:
        return
    for field in ("primary_key", "name"):
        column = getattr(database, field)
        if column not in database.columns:
            yield _error(
                f"/database/{field}", f"there is no column {column!r}", f"Name one of {', '.join(database.columns)}."
            )

    slots = {slot.name for slot in schema.slots}
    for name, operator in database.operators.items():
        path = f"/database/operators/{name}"
        if name not in slots:
            yield _error(path, f"there is no slot {name!r}", f"Name one of {', '.join(sorted(slots))}.")
            continue
        column = schema.slot(name).column
        if column is None:
            yield _error(path, f"{name!r} has no column to be compared with", "Give the slot a `column`.")
        elif operator in ("le", "ge") and database.columns.get(column) not in ("number", "time"):
            yield _error(path, f"{operator!r} needs numbers or times, {column!r} has neither", "Use `eq` or `fuzzy`.")


def _flow_names(schema: Schema) -> Iterator[Finding]:
    slots = {slot.name: slot for slot in schema.slots}
    actions = {action.name for action in schema.actions}
    nodes = {node.id for node in schema.flow.nodes}

    if schema.flow.start not in nodes:
        yield _error(
            "/flow/start", f"there is no node {schema.flow.start!r}", f"Name one of {', '.join(sorted(nodes))}."
        )

    for index, node in enumerate(schema.flow.nodes):
        path = f"/flow/nodes/{index}"
        for place, name in enumerate(node.slots):
            if name not in slots:
                yield _error(f"{path}/slots/{place}", f"there is no slot {name!r}", f"Name one of {', '.join(slots)}.")
            elif node.kind == "request" and not slots[name].informable:
                yield _error(
                    f"{path}/slots/{place}",
                    f"{name!r} is asked for, but a user cannot say it",
                    "Make the slot informable, or do not ask for it.",
                )
        if node.kind in ("request", "confirm") and not node.slots:
            yield _error(f"{path}/slots", f"a {node.kind} node needs slots", "Name at least one.")
        if node.kind == "call" and node.action not in actions:
            known = ", ".join(sorted(actions)) or "none are defined"
            yield _error(f"{path}/action", f"there is no action {node.action!r}", f"Name one of the actions: {known}.")
        if node.kind in ("offer", "no_match", "select") and schema.database is None:
            yield _error(f"{path}/kind", f"{node.kind} needs a database, and there is none", "Describe `database`.")

    for index, edge in enumerate(schema.flow.edges):
        yield from _edge(index, edge, nodes, set(slots), actions)


def _edge(index: int, edge: Edge, nodes: set[str], slots: set[str], actions: set[str]) -> Iterator[Finding]:
    path = f"/flow/edges/{index}"
    for field, name in (("from", edge.source), ("to", edge.target)):
        if name not in nodes:
            yield _error(f"{path}/{field}", f"there is no node {name!r}", f"Name one of {', '.join(sorted(nodes))}.")
    for field, known in (
        ("filled", slots),
        ("missing", slots),
        ("called", actions),
        ("not_called", actions),
        ("failed", actions),
    ):
        for place, name in enumerate(getattr(edge.when, field)):
            if name not in known:
                what = "slot" if known is slots else "action"
                listed = ", ".join(sorted(known)) or "none"
                yield _error(f"{path}/when/{field}/{place}", f"there is no {what} {name!r}", f"Name one of: {listed}.")
    for place, act in enumerate(edge.when.user):
        if not _is_act(act, USER_ACTS, slots):
            yield _error(
                f"{path}/when/user/{place}", f"{act!r} is no act of a user", f"Name one of {', '.join(USER_ACTS)}."
            )


def _flow_walk(schema: Schema) -> Iterator[Finding]:
    nodes = {node.id: node for node in schema.flow.nodes}
    if schema.flow.start not in nodes:
        return
    after: dict[str, list[Edge]] = {name: [] for name in nodes}
    for edge in schema.flow.edges:
        if edge.source in nodes and edge.target in nodes:
            after[edge.source].append(edge)

    reached, waiting = {schema.flow.start}, [schema.flow.start]
    while waiting:
        for edge in after[waiting.pop()]:
            if edge.target not in reached:
                reached.add(edge.target)
                waiting.append(edge.target)

    for index, node in enumerate(schema.flow.nodes):
        path = f"/flow/nodes/{index}"
        if node.id not in reached:
            yield _error(path, f"no way leads to {node.id!r}", "Add an edge that ends there, or remove the node.")
        if node.kind != "bye" and not after[node.id]:
            yield _error(path, f"no edge leaves {node.id!r}", "Add one: only a bye node ends the dialog.")
        elif node.kind in ("branch", "call") and all(edge.when.model_fields_set for edge in after[node.id]):
            yield _warning(
                path,
                f"every edge of {node.id!r} has a guard: where none holds, the bot stays silent",
                "End with an edge without `when`.",
            )
    if not any(node.kind == "bye" and node.id in reached for node in nodes.values()):
        yield _error(
            "/flow/nodes", "no dialog can end: no bye node can be reached", "Add a bye node and an edge to it."
        )

    circle = _silent_circle({name for name in nodes if nodes[name].kind in SPEAKING}, after)
    if circle:
        index = [node.id for node in schema.flow.nodes].index(circle[0])
        yield _error(
            f"/flow/nodes/{index}",
            f"{' -> '.join([*circle, circle[0]])} is a circle in which nobody speaks",
            "Put a node between that the user answers.",
        )


def _silent_circle(speaking: set[str], after: dict[str, list[Edge]]) -> list[str]:
    """The first circle that passes no speaking node."""
    done: set[str] = set()
    for first in after:
        if first in speaking or first in done:
            continue
        path: list[str] = []
        walk = [(first, iter(after[first]))]
        path.append(first)
        while walk:
            here, edges = walk[-1]
            following = next(edges, None)
            if following is None:
                walk.pop()
                path.pop()
                done.add(here)
                continue
            name = following.target
            if name in path:
                return path[path.index(name) :]
            if name not in speaking and name not in done:
                walk.append((name, iter(after[name])))
                path.append(name)
    return []


def _actions(schema: Schema) -> Iterator[Finding]:
    slots = {slot.name: slot for slot in schema.slots}
    for index, action in enumerate(schema.actions):
        for place, name in enumerate(action.required):
            path = f"/actions/{index}/required/{place}"
            slot = slots.get(name)
            if slot is None:
                yield _error(path, f"there is no slot {name!r}", f"Name one of {', '.join(slots)}.")
            elif not slot.informable and slot.column is None:
                yield _error(
                    path,
                    f"{name!r} can never be filled: no user says it, no column has it",
                    "Make the slot informable.",
                )
        for place, name in enumerate(action.results):
            if name not in slots:
                yield _error(
                    f"/actions/{index}/results/{place}",
                    f"there is no slot {name!r}",
                    f"Name one of {', '.join(slots)}.",
                )


def _templates(schema: Schema) -> Iterator[Finding]:
    slots = {slot.name for slot in schema.slots}
    known = slots | {"count", "domain", "slot", "value", "name", "constraints"}
    for side, acts in (("user", (*USER_ACTS, "answer")), ("system", SYSTEM_ACTS)):
        for key, sentences in getattr(schema.templates, side).items():
            if not all(_is_act(part, acts, slots) for part in key.split("+")):
                listed = ", ".join(acts)
                yield _error(
                    f"/templates/{side}/{key}", f"{key!r} is no act", f"Name one of {listed}, as `inform(area)`."
                )
            for index, sentence in enumerate(sentences):
                for name in placeholders(sentence):
                    if name not in known:
                        yield _error(
                            f"/templates/{side}/{key}/{index}",
                            f"{{{name}}} is no slot",
                            f"Name one of {', '.join(sorted(known))}.",
                        )


def _is_act(key: str, acts: Sequence[str], slots: set[str]) -> bool:
    found = _ACT.match(key)
    return found is not None and found[1] in acts and (not found[2] or found[2] in slots)


def _tokens(schema: Schema) -> Iterator[Finding]:
    names = {slot.name for slot in schema.slots}
    for name in schema.delex:
        if name not in names:
            yield _error(f"/delex/{name}", f"there is no slot {name!r}", f"Name one of {', '.join(sorted(names))}.")
    first: dict[str, str] = {}
    for slot in schema.slots:
        token = schema.token(slot.name)
        if token in first:
            yield _error(
                f"/delex/{slot.name}", f"{token} stands for {first[token]!r} too", "Give each slot its own token."
            )
        first[token] = slot.name
