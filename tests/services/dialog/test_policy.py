"""A flow is walked from what the user did to what the bot does; actions are called with what was confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from services.dialog.acts import Act
from services.dialog.policy import Policy, State, Step
from services.dialog.ready import ready_bot
from services.dialog.schema import Action
from services.dialog.tracking import update


class Talk:
    """A user of the restaurants, in acts."""

    def __init__(self) -> None:
        self.schema, self.table = ready_bot("restaurant")
        self.policy = Policy(self.schema, self.table)
        self.state: State = self.policy.start()
        self.belief: dict[str, str] = {}
        self.system: tuple[Act, ...] = ()
        self.calls: list[Mapping[str, str]] = []
        self.works = True

    def __call__(self, *acts: Act) -> Step:
        self.belief = update(self.belief, acts, self.system)
        step = self.policy.step(self.state, self.belief, acts, self._call)
        self.system = step.acts
        return step

    def _call(self, action: Action, slots: Mapping[str, str]) -> Mapping[str, str] | None:
        self.calls.append(slots)
        return {"reference": "R1"} if self.works else None


def names(acts: Sequence[Act]) -> list[str]:
    return [act.key for act in acts]


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_what_narrows_the_search_is_asked_for_then_a_row_is_offered(talk: Talk) -> None:
    assert names(talk(Act("inform", "area", "north")).acts) == ["request(food)"]
    assert names(talk(Act("dont_care", "food")).acts) == ["request(pricerange)"]
    step = talk(Act("inform", "pricerange", "cheap"))
    assert names(step.acts)[0] == "offer(name)"
    assert all(row["area"] == "north" and row["pricerange"] == "cheap" for row in step.rows)
    assert step.acts[0].value in {row["name"] for row in step.rows}


def test_another_one_is_another_row_until_there_is_none(talk: Talk) -> None:
    first = talk(Act("inform", "food", "chinese"), Act("inform", "area", "north"), Act("inform", "pricerange", "cheap"))
    offered = [first.acts[0].value] if first.acts[0].name == "offer" else []
    for _ in range(20):
        step = talk(Act("request_alternatives"))
        if step.acts[0].name != "offer":
            break
        offered.append(step.acts[0].value)
    assert step.acts[0].name == "no_match"
    assert len(offered) == len(set(offered))


def test_a_booking_asks_confirms_and_calls(talk: Talk) -> None:
    talk(Act("inform", "name", "nandos city centre"))
    assert names(talk(Act("confirm_action"), Act("inform", "people", "4")).acts) == ["request(day)"]
    assert names(talk(Act("inform", "day", "friday")).acts) == ["request(time)"]
    assert names(talk(Act("inform", "time", "19:30")).acts) == ["confirm(people)", "confirm(day)", "confirm(time)"]
    assert talk.calls == []
    step = talk(Act("affirm"))
    assert names(step.acts) == ["notify_success", "inform(reference)"]
    assert talk.calls == [{"name": "nandos city centre", "people": "4", "day": "friday", "time": "19:30"}]
    assert step.values["reference"] == "R1"


def test_what_is_denied_is_asked_for_again(talk: Talk) -> None:
    talk(Act("inform", "name", "nandos city centre"))
    talk(Act("confirm_action"), Act("inform", "people", "4"), Act("inform", "day", "friday"))
    talk(Act("inform", "time", "19:30"))
    step = talk(Act("negate"), Act("inform", "people", "5"))
    assert step.acts[0] == Act("confirm", "people", "5")
    assert names(talk(Act("negate")).acts) == ["request(people)"]
    assert talk.calls == []


def test_an_action_that_fails_is_told_and_may_be_tried_again(talk: Talk) -> None:
    talk(Act("inform", "name", "nandos city centre"))
    talk(Act("confirm_action"), *(Act("inform", slot, value) for slot, value in [("people", "2"), ("day", "monday")]))
    talk(Act("inform", "time", "12:00"))
    talk.works = False
    assert names(talk(Act("affirm")).acts) == ["notify_failure"]
    talk.works = True
    talk(Act("inform", "day", "tuesday"))
    assert names(talk(Act("affirm")).acts)[0] == "notify_success"
    assert talk.calls[-1]["day"] == "tuesday"


def test_a_name_that_no_row_has_is_never_said_back(talk: Talk) -> None:
    step = talk(Act("inform", "name", "the moon and sixpence"))
    assert step.acts == (Act("no_match"),)
    assert "name" not in step.values


def test_a_goodbye_ends_it(talk: Talk) -> None:
    assert names(talk(Act("bye")).acts) == ["bye"]
