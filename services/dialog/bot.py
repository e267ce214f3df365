"""One version of a bot as a function: what stood before, and a text, to what stands after, and a reply."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from services.dialog.acts import Act
from services.dialog.database.table import Row, Table
from services.dialog.policy import Call, Policy, State, Step
from services.dialog.schema import Schema
from services.dialog.sentences import Reply, Sentences, reply
from services.dialog.tracking import update
from services.dialog.understanding.heads import Floats, Heads
from services.dialog.understanding.reading import Reader, Understood
from services.dialog.understanding.space import Offsets

_SHOWN_ROWS = 5
FALLBACK = 0.35
"""Confidence below which the bot asks again instead of acting."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a dialog is between two turns. Nothing else is kept, so a turn can be undone or branched from."""

    belief: Mapping[str, str] = field(default_factory=dict)
    system: tuple[Act, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)
    turn: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "belief": dict(self.belief),
            "system": [list(act) for act in self.system],
            "policy": dict(self.policy),
            "turn": self.turn,
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> Standing:
        """From such JSON."""
        return Standing(
            belief=dict(document["belief"]),
            system=tuple(Act(*act) for act in document["system"]),
            policy=dict(document["policy"]),
            turn=int(document["turn"]),
        )


@dataclass(frozen=True, slots=True)
class BotTurn:
    """What a turn did. ``rows`` are the first of ``count`` that fit, ``fallback`` whether the bot asked again."""

    standing: Standing
    understood: Understood
    reply: Reply
    acts: tuple[Act, ...]
    belief_delta: Mapping[str, str | None]
    count: int
    rows: tuple[Row, ...]
    path: tuple[str, ...]
    action: str
    action_failed: bool
    fallback: bool
    done: bool


@dataclass(frozen=True, slots=True)
class Taught:
    """A correction that acts at once: what a text near ``vector`` means after ``context``."""

    vector: Floats
    context: str
    acts: tuple[Act, ...]
    text: str


class Bot:
    """A schema, its rows, the heads, and corrections that no training has taken up yet."""

    def __init__(self, schema: Schema, table: Table | None, heads: Heads, taught: Sequence[Taught] = ()) -> None:
        self.schema = schema
        self.table = table
        self._policy = Policy(schema, table)
        self._reader = Reader(schema, table, heads)
        self._sentences = Sentences(schema)
        self._taught = list(taught)

    def begin(self) -> Standing:
        """A dialog in which nothing was said."""
        return Standing(policy=_policy_document(self._policy.start()))

    def remember(self, taught: Sequence[Taught]) -> None:
        """Corrections as they are now."""
        self._taught = list(taught)

    def understand(
        self, text: str, tokens: Floats, offsets: Offsets, sentence: Floats, standing: Standing
    ) -> Understood:
        """What ``text`` means now; a correction of the same or nearly the same text goes before the heads."""
        read = self._reader.read(text, tokens, offsets, standing.system)
        near = self._nearest(text, sentence, standing)
        return read if near is None else Understood(near, (), 1.0)

    def turn(self, standing: Standing, understood: Understood, call: Call) -> BotTurn:
        """The bot's turn after what was understood; ``call`` carries actions out."""
        belief = update(standing.belief, understood.acts, standing.system)
        state = _policy_state(standing.policy)
        acts = understood.acts
        unsure = understood.confidence < FALLBACK or [act.name for act in acts] == ["unknown"]
        failed_before = list(state.failed)

        if unsure:
            belief = dict(standing.belief)
            rows = tuple(self._policy.rows(belief, state))
            step = Step((Act("cannot_understand"),), (state.node,), (), rows, {}, understood=False)
        else:
            step = self._policy.step(state, belief, acts, call)

        said = self._said(step, understood, standing.turn)
        after = Standing(belief, step.acts, _policy_document(state), standing.turn + 1)
        return BotTurn(
            standing=after,
            understood=understood,
            reply=said,
            acts=step.acts,
            belief_delta=_delta(standing.belief, belief),
            count=len(step.rows),
            rows=step.rows[:_SHOWN_ROWS],
            path=step.path,
            action=step.action,
            action_failed=bool(step.action) and step.action in state.failed and step.action not in failed_before,
            fallback=not step.understood,
            done=any(act.name == "bye" for act in step.acts),
        )

    def _said(self, step: Step, understood: Understood, turn: int) -> Reply:
        """The reply; words are chosen by what is said, so that the same dialog has the same words."""
        seed = "/".join(map(str, step.acts)) + f"/{turn}"
        random = Random(hashlib.sha256(seed.encode()).hexdigest())  # noqa: S311 - to be repeated
        answer = reply(self._sentences, step.acts, step.values, len(step.rows), random)
        if not understood.unknown_values:
            return answer
        act = understood.unknown_values[0]
        spoken = self.schema.slot(act.slot).spoken
        before = f"i do not know the {spoken} you named . "
        return Reply(before + answer.text, before + answer.delexicalised)

    def _nearest(self, text: str, sentence: Floats, standing: Standing) -> tuple[Act, ...] | None:
        context = context_key(standing.system)
        usable = [taught for taught in self._taught if taught.context == context]
        same = [taught for taught in usable if _same(taught.text, text)]
        if same or not usable:
            return same[-1].acts if same else None
        likeness = np.stack([taught.vector for taught in usable]) @ sentence
        best = int(likeness.argmax())
        return usable[best].acts if likeness[best] >= NEAR else None


def near(text: str, vector: Floats, taught: str, taught_vector: Floats) -> bool:
    """Whether a correction of ``taught`` is one of ``text`` too, after the same question."""
    return _same(text, taught) or float(vector @ taught_vector) >= NEAR


def _same(one: str, other: str) -> bool:
    return one.casefold().split() == other.casefold().split()


NEAR = 0.97
"""Cosine of sentence embeddings from which a text counts as a repeat of a taught one."""


def context_key(system: Sequence[Act]) -> str:
    """What the bot did before, as far as it changes what a text means."""
    return " ".join(sorted({act.key for act in system if act.name in ("request", "confirm", "select")}))


def _delta(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """Slots whose value changed; ``None`` for one that was taken back."""
    changed: dict[str, str | None] = {slot: value for slot, value in after.items() if before.get(slot) != value}
    return changed | {slot: None for slot in before if slot not in after}


def _policy_document(state: State) -> dict[str, Any]:
    return {
        "node": state.node,
        "offered": state.offered,
        "rejected": list(state.rejected),
        "called": list(state.called),
        "failed": list(state.failed),
        "results": dict(state.results),
    }


def _policy_state(document: Mapping[str, Any]) -> State:
    return State(
        node=document["node"],
        offered=document["offered"],
        rejected=list(document["rejected"]),
        called=list(document["called"]),
        failed=list(document["failed"]),
        results=dict(document["results"]),
    )
