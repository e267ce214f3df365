"""The flow that most tasks have: ask what narrows the search, offer, tell, book. Importers and ready schemas use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.dialog.schema import Flow


def standard_flow(ask: Sequence[str], tell: Sequence[str], action: str = "", needs: Sequence[str] = ()) -> Flow:
    """A flow over a database.

    ``ask`` are slots asked for while many rows fit, in that order, ``tell`` what is said of an offered row. With an
    ``action`` its ``needs`` are asked for when the user wants it, confirmed, and the action is called.
    """
    nodes: list[dict[str, Any]] = [
        {"id": "start", "kind": "branch"},
        {"id": "next", "kind": "branch"},
        *({"id": f"ask_{slot}", "kind": "request", "slots": [slot]} for slot in ask),
        {"id": "offer", "kind": "offer", "slots": list(tell)},
        {"id": "tell", "kind": "inform"},
        {"id": "no_match", "kind": "no_match"},
        {"id": "bye", "kind": "bye"},
    ]
    edges: list[dict[str, Any]] = [
        {"from": "start", "to": "next"},
        {"from": "next", "to": "bye", "when": {"user": ["bye", "thank"]}},
        {"from": "next", "to": "tell", "when": {"user": ["request"], "offered": True}},
    ]
    if action:
        edges.append(
            {
                "from": "next",
                "to": "book",
                "when": {"user": ["confirm_action", "affirm"], "offered": True, "not_called": [action]},
            }
        )
    narrowing = {"matches": ["few", "many"], "offered": False}
    edges += [
        {"from": "next", "to": "no_match", "when": {"matches": ["zero"]}},
        {"from": "next", "to": "offer", "when": {"matches": ["one"]}},
        *({"from": "next", "to": f"ask_{slot}", "when": narrowing | {"missing": [slot]}} for slot in ask),
        {"from": "next", "to": "offer"},
        *({"from": f"ask_{slot}", "to": "next"} for slot in ask),
        *({"from": name, "to": "next"} for name in ("offer", "tell", "no_match")),
    ]
    if action:
        booking_nodes, booking_edges = _booking(action, needs)
        nodes += booking_nodes
        edges += booking_edges
    return Flow.model_validate({"start": "start", "nodes": nodes, "edges": edges})


def _booking(action: str, needs: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is missing is asked for one after another, all is confirmed, and then it is done."""
    nodes: list[dict[str, Any]] = [
        {"id": "book", "kind": "branch"},
        *({"id": f"book_{slot}", "kind": "request", "slots": [slot]} for slot in needs),
        {"id": "check", "kind": "confirm", "slots": list(needs)},
        {"id": "call", "kind": "call", "action": action},
        {"id": "booked", "kind": "notify_success", "slots": ["reference"]},
        {"id": "not_booked", "kind": "notify_failure"},
    ]
    if not needs:
        nodes = [node for node in nodes if node["id"] != "check"]

    leave = [
        {"to": "next", "when": {"user": ["bye", "request_alternatives"]}},
    ]
    edges: list[dict[str, Any]] = [
        *({"from": "book", "to": f"book_{slot}", "when": {"missing": [slot]}} for slot in needs),
        {"from": "book", "to": "check" if needs else "call"},
        *({"from": f"book_{slot}", **edge} for slot in needs for edge in leave),
        *({"from": f"book_{slot}", "to": "book"} for slot in needs),
    ]
    if needs:
        edges += [
            {"from": "check", "to": "call", "when": {"user": ["affirm", "confirm_action"]}},
            *({"from": "check", **edge} for edge in leave),
            {"from": "check", "to": "book"},
        ]
    return nodes, [
        *edges,
        {"from": "call", "to": "not_booked", "when": {"failed": [action]}},
        {"from": "call", "to": "booked"},
        {"from": "booked", "to": "next"},
        {"from": "not_booked", "to": "next", "when": {"user": ["bye", "request_alternatives", "negate"]}},
        {"from": "not_booked", "to": "book"},
    ]
