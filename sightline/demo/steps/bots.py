"""Task bots: made from a schema and a CSV, trained on simulated dialogs, talked to, taught, promoted."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from services.dialog.ready import ready_document
from sightline.demo.stage import Stage, Step, check, ok
from sightline.demo.steps.jobs import run_job

BOT = "/v1/bots/restaurants"
TRAINING = {"bot": "restaurants", "dialogs": 700, "turns": 2_500, "epochs": 12, "measured": 20}
ODD = "somewhere posh where the students live"
"""What no sentence of the schema is like."""


def make(stage: Stage) -> None:
    """A schema and 110 restaurants; dialogs are simulated from them, and a model learns to read turns."""
    document, rows = ready_document("restaurant")
    made = ok(stage.http.post("/v1/bots", json={"name": "restaurants", "schema": document}), 201).json()
    filled = ok(stage.http.put(f"{BOT}/database", content=rows, headers={"content-type": "text/csv"})).json()
    slots, count = filled["schema"]["slots"], rows.count(b"\n") - 1
    stage.say(f"{made['name']}: {len(slots)} slots, {count} restaurants")
    check(filled["findings"] == [], f"the schema is sound, reported: {filled['findings']}")

    measured = run_job(stage, "train-bot", TRAINING)["result"]["measured"]
    right, success = measured["simulated"]["joint_goal"], measured["success"]["success"]
    stage.say(f"version 1: beliefs right in {right:.0%} of held-out turns, {success:.0%} of simulated users served")
    check(right >= 0.9, f"beliefs are right in {right:.0%} of turns, 90 % were expected")


def talk(stage: Stage) -> None:
    """Search, ask, book: every value in a reply was looked up."""
    session = _open(stage)
    _say(stage, session, "hi, i am looking for a cheap place to eat in the north")
    found = _say(stage, session, "any food is fine")
    check(found["belief"] == {"pricerange": "cheap", "area": "north", "food": "dont care"}, f"{found['belief']}")
    name, phone = found["database"]["rows"][0]["name"], found["database"]["rows"][0]["phone"]
    check(name in found["response"], f"{name!r} is offered, it said {found['response']!r}")
    told = _say(stage, session, "what is the phone number?")
    check(phone in told["response"], f"{phone} is told, it said {told['response']!r}")
    for text in ("please book a table", "for 4 people", "on friday"):
        _say(stage, session, text)
    _say(stage, session, "at half past seven")
    booked = _say(stage, session, "yes")
    action = booked["action"] or {}
    wanted = {"name": name, "people": "4", "day": "friday", "time": "07:30"}
    check(action.get("arguments") == wanted, f"a table is booked for {wanted}, it was {action}")


def teach(stage: Stage) -> None:
    """A turn that was not understood is corrected; the correction acts at once, and a version learns it."""
    session = _open(stage)
    _say(stage, session, ODD)
    meant = {"pricerange": "expensive", "area": "west"}
    acts = [{"name": "inform", "slot": slot, "value": value} for slot, value in meant.items()]
    place = f"{BOT}/dialogs/{session.rpartition('/')[2]}/turns/0/corrections"
    ok(stage.http.post(place, json={"acts": acts}), 201)
    stage.say(Text(f"taught: {meant}", "cyan"))
    again = _say(stage, _open(stage), ODD)
    check(again["belief"] == meant, f"it understands {meant} now, it understood {again['belief']}")


def chat(stage: Stage) -> None:
    """The same bot through the door that chat programs know."""
    said = [{"role": "user", "content": "i want an expensive italian restaurant in the centre"}]
    answer = ok(stage.http.post("/v1/chat/completions", json={"model": "bot:restaurants", "messages": said})).json()
    stage.say(f"{answer['choices'][0]['message']['content']}")
    belief = answer["sightline"]["belief"]
    check(belief == {"pricerange": "expensive", "food": "italian", "area": "centre"}, f"it believed {belief}")


def _open(stage: Stage) -> str:
    session = ok(stage.http.post(f"{BOT}/sessions", json={}), 201).json()
    return f"{BOT}/sessions/{session['id']}"


def _say(stage: Stage, session: str, text: str) -> dict[str, Any]:
    turn: dict[str, Any] = ok(stage.http.post(f"{session}/turns", json={"text": text})).json()
    stage.say(Text.assemble(("you  ", "bold"), text))
    stage.say(Text.assemble(("bot  ", "green"), turn["response"]))
    return turn


STEPS = (
    Step("A task bot is made from a schema and a CSV", make),
    Step("It finds a restaurant and books a table", talk),
    Step("A mistake is corrected, and stays corrected", teach),
    Step("Chat programs talk to it", chat),
)
