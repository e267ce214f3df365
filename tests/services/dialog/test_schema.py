"""A schema is checked down to the flow, and every finding points at its cause."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.dialog.checks import check_schema, read_schema
from services.dialog.ready import READY, ready_bot, ready_document


def restaurant() -> dict[str, Any]:
    return copy.deepcopy(dict(ready_document("restaurant")[0]))


def findings(document: dict[str, Any], level: str = "error") -> list[tuple[str, str]]:
    schema, found = read_schema(document)
    if schema is not None:
        found += check_schema(schema)
    return [(one.path, one.message) for one in found if one.level == level]


@pytest.mark.parametrize("name", READY)
def test_ready_schemas_are_sound(name: str) -> None:
    schema, table = ready_bot(name)
    assert check_schema(schema, table) == []
    assert table.rows


def test_a_form_that_is_wrong_is_told_by_its_path() -> None:
    document = restaurant()
    document["slots"][2]["type"] = "colour"
    ((path, _),) = findings(document)
    assert path == "/slots/2/type"


def broken(document: dict[str, Any], case: str) -> None:
    flow = document["flow"]
    if case == "unreachable":
        flow["nodes"].append({"id": "island", "kind": "request", "slots": ["food"]})
        flow["edges"].append({"from": "island", "to": "next"})
    elif case == "silent circle":
        flow["nodes"].append({"id": "again", "kind": "branch"})
        flow["edges"] = [edge for edge in flow["edges"] if edge["from"] != "start"]
        flow["edges"] += [{"from": "start", "to": "again"}, {"from": "again", "to": "start"}]
    elif case == "not informable":
        flow["nodes"].append({"id": "ask_phone", "kind": "request", "slots": ["phone"]})
        flow["edges"] += [{"from": "offer", "to": "ask_phone"}, {"from": "ask_phone", "to": "next"}]
    elif case == "placeholder":
        document["templates"]["system"]["offer"] = ["how about {title} ?"]
    elif case == "column":
        document["slots"][0]["column"] = "cuisine"
    elif case == "unfillable":
        document["slots"].append({"name": "colour", "informable": False, "requestable": True})
        document["actions"][0]["required"].append("colour")
    elif case == "token":
        document["delex"] = {"phone": "[restaurant_food]"}
    elif case == "no end":
        flow["edges"] = [edge for edge in flow["edges"] if edge["to"] != "bye"]
    elif case == "edge":
        flow["edges"][3]["to"] = "nowhere"
    elif case == "action":
        document["flow"]["nodes"] = [
            {**node, "action": "fly"} if node["kind"] == "call" else node for node in flow["nodes"]
        ]
    elif case == "name twice":
        document["slots"].append({"name": "food"})
    elif case == "act":
        document["templates"]["user"]["shout(food)"] = ["FOOD"]
    elif case == "guard":
        flow["edges"][1]["when"] = {"user": ["dance"]}
    elif case == "operator":
        document["database"]["operators"]["food"] = "le"


@pytest.mark.parametrize(
    ("case", "path", "said"),
    [
        ("unreachable", "/flow/nodes/", "no way leads to 'island'"),
        ("silent circle", "/flow/nodes/", "a circle in which nobody speaks"),
        ("not informable", "/flow/nodes/", "'phone' is asked for, but a user cannot say it"),
        ("placeholder", "/templates/system/offer/0", "{title} is no slot"),
        ("column", "/slots/0/column", "no column 'cuisine'"),
        ("unfillable", "/actions/0/required/4", "'colour' can never be filled"),
        ("token", "/delex/", "[restaurant_food] stands for"),
        ("no end", "/flow/nodes", "no bye node can be reached"),
        ("edge", "/flow/edges/3/to", "no node 'nowhere'"),
        ("action", "/flow/nodes/", "no action 'fly'"),
        ("name twice", "/slots/11", "'food' is the name of /slots/0 too"),
        ("act", "/templates/user/shout(food)", "is no act"),
        ("guard", "/flow/edges/1/when/user/0", "'dance' is no act of a user"),
        ("operator", "/database/operators/food", "needs numbers or times"),
    ],
)
def test_what_cannot_work_is_found(case: str, path: str, said: str) -> None:
    document = restaurant()
    assert findings(document) == []
    broken(document, case)
    assert any(found.startswith(path) and said in message for found, message in findings(document)), findings(document)


def test_a_branch_without_a_last_way_is_warned_of() -> None:
    document = restaurant()
    document["flow"]["edges"] = [
        edge for edge in document["flow"]["edges"] if not (edge["from"] == "next" and "when" not in edge)
    ]
    assert any("every edge of 'next' has a guard" in message for _, message in findings(document, "warning"))
