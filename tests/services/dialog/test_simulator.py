"""Simulated dialogs are repeatable, annotated exactly, cover the flow, and never name what was not looked up."""

from __future__ import annotations

import time

import pytest

from services.dialog.acts import DONT_CARE
from services.dialog.ready import READY, ready_bot
from services.dialog.simulator import simulate
from services.dialog.simulator.coverage import coverage
from services.dialog.values import plain


@pytest.mark.parametrize("name", READY)
def test_the_same_seed_gives_the_same_dialogs(name: str) -> None:
    schema, table = ready_bot(name)
    first = [dialog.document() for dialog in simulate(schema, table, 20, seed=5)]
    assert first == [dialog.document() for dialog in simulate(schema, table, 20, seed=5)]
    assert first != [dialog.document() for dialog in simulate(schema, table, 20, seed=6)]


@pytest.mark.parametrize("name", READY)
def test_dialogs_reach_every_node_and_most_goals(name: str) -> None:
    schema, table = ready_bot(name)
    report = coverage(schema, simulate(schema, table, 200, seed=1))
    assert report.nodes == 1.0
    assert report.unvisited == ()
    assert report.edges > 0.8
    assert report.success > 0.75
    assert report.act_sequences > 150


def test_spans_stand_where_their_values_were_said() -> None:
    schema, table = ready_bot("restaurant")
    spans = 0
    for dialog in simulate(schema, table, 100, seed=2):
        for turn in dialog.turns:
            informed = {act.slot: act.value for act in turn.user_acts if act.name == "inform"}
            for span in turn.spans:
                assert turn.user[span.start : span.end]
                assert plain(span.value) == plain(span.value.strip())
                assert span.slot in informed
                spans += 1
    assert spans > 200


def test_beliefs_hold_what_the_user_said_last() -> None:
    schema, table = ready_bot("hotel")
    for dialog in simulate(schema, table, 60, seed=3):
        said: dict[str, str] = {}
        for turn in dialog.turns:
            said |= {act.slot: act.value for act in turn.user_acts if act.name == "inform"}
            said |= {act.slot: DONT_CARE for act in turn.user_acts if act.name == "dont_care"}
            assert turn.belief == said


def test_no_reply_names_an_entity_that_was_not_looked_up() -> None:
    """The promise of the page: 0 of 10,000 replies. Names are looked for in the words, not in the annotation."""
    schema, table = ready_bot("restaurant")
    names = {plain(row["name"]) for row in table.rows if len(row["name"]) > 6}
    replies = 0
    for number, dialog in enumerate(simulate(schema, table, 1_600, seed=11)):
        for turn in dialog.turns:
            replies += 1
            named = {name for name in names if name in turn.system}
            if not named:
                continue
            row = table.row(turn.offered)
            assert row is not None, (number, turn.system)
            longest = max(named, key=len)
            assert plain(row["name"]) == longest or all(name in plain(row["name"]) for name in named), turn.system
            believed = {slot: value for slot, value in turn.belief.items() if value != DONT_CARE}
            assert row in table.matching(schema, believed)
    assert replies >= 10_000


def test_a_thousand_dialogs_take_less_than_half_a_minute() -> None:
    schema, table = ready_bot("restaurant")
    begin = time.process_time()
    assert sum(1 for _ in simulate(schema, table, 1_000)) == 1_000
    assert time.process_time() - begin < 30


def test_soloists_lines_have_its_form() -> None:
    schema, table = ready_bot("restaurant")
    dialog = next(iter(simulate(schema, table, 1, seed=7)))
    lines = list(dialog.soloist("restaurant"))
    assert len(lines) == len(dialog.turns)
    assert set(lines[0]) == {"history", "belief", "kb", "reply", "dp", "name"}
    assert lines[0]["history"] == [f"user : {dialog.turns[0].user}"]
    assert all(line["belief"].startswith("belief : ") for line in lines)
    assert all(line["reply"].startswith("system : ") for line in lines)
    assert len(lines[-1]["history"]) == 2 * len(lines) - 1
