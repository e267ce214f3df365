"""What teachers say: corrections of turns, which act at once through memory and are learnt by the next version."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, delete, func, insert, select, update

from services.dialog.acts import USER_ACTS, Act
from services.dialog.bot import Taught, context_key
from services.dialog.examples import Example
from services.dialog.schema import Schema
from services.dialog.sentences import Span
from services.dialog.sessions import KeptTurn, Session
from services.dialog.store import BotRecord
from services.dialog.understanding.heads import Floats
from services.dialog.values import canonical
from services.errors import Kind, Problem
from services.storage.database import reading, writing
from services.storage.ids import new_id
from services.storage.tables import bot_corrections, bot_turns

MOST = 5_000
"""Corrections of one bot."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A turn's text, what the bot had said before it, and what it means. ``was`` are the acts that were read."""

    id: str
    session_id: str
    number: int
    text: str
    context: str
    system: tuple[Act, ...]
    acts: tuple[Act, ...]
    spans: tuple[Span, ...]
    vector: Floats
    was: tuple[Act, ...]
    made_by: str
    taken_up: int | None
    at: float

    def example(self) -> Example:
        """As something to learn from."""
        return Example(self.text, self.system, self.acts, self.spans)

    def taught(self) -> Taught:
        """As something to remember."""
        return Taught(self.vector, self.context, self.acts, self.text)


def read_acts(schema: Schema, said: Sequence[Mapping[str, str]], text: str) -> tuple[tuple[Act, ...], tuple[Span, ...]]:
    """Acts as a teacher sends them, checked against the schema, and where their values stand in ``text``.

    Raises ``correction-act`` for what a user cannot do or a schema does not have.
    """
    acts: list[Act] = []
    spans: list[Span] = []
    for index, one in enumerate(said):
        name, slot, value = one.get("name", ""), one.get("slot", ""), one.get("value", "")
        at = f"/acts/{index}"
        if name not in USER_ACTS:
            raise _wrong(f"{at}/name", f"{name!r} is no act of a user", f"Name one of {', '.join(USER_ACTS)}.")
        known = {slot.name: slot for slot in schema.slots}
        if slot and slot not in known:
            raise _wrong(f"{at}/slot", f"There is no slot {slot!r}", f"Name one of {', '.join(known)}.")
        if name in ("inform", "request", "dont_care") and not slot:
            raise _wrong(f"{at}/slot", f"{name} needs a slot", "Add it.")
        if name == "inform":
            found = known[slot]
            if not found.informable:
                raise _wrong(f"{at}/slot", f"A user cannot say {slot!r}", "Name an informable slot.")
            value = canonical(value, found.type)
            if not value:
                raise _wrong(f"{at}/value", "There is no value", "Send what was meant.")
            allowed = {canonical(one, found.type) for one in found.values or ()}
            if allowed and value not in allowed:
                raise _wrong(
                    f"{at}/value",
                    f"{slot!r} has no value {value!r}",
                    f"Its values are {', '.join(sorted(allowed)[:20])}.",
                )
            words = one.get("words") or value
            place = text.lower().find(words.lower())
            if place >= 0:
                spans.append(Span(slot, place, place + len(words), value))
        acts.append(Act(name, slot, value if name == "inform" else ""))
    return tuple(acts), tuple(spans)


class TeachingStore:
    """Corrections of bots. Methods block; from async code, call them in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def correct(
        self,
        bot: BotRecord,
        session: Session,
        turn: KeptTurn,
        *,
        acts: tuple[Act, ...],
        spans: tuple[Span, ...],
        vector: Floats,
        by: str,
    ) -> Correction:
        """Keep what a turn means; the same turn corrected again is corrected anew. Later turns become stale."""
        correction = Correction(
            id=new_id("cor"),
            session_id=session.id,
            number=turn.number,
            text=turn.text,
            context=context_key(turn.before.system),
            system=turn.before.system,
            acts=acts,
            spans=spans,
            vector=vector,
            was=tuple(Act(*act) for act in turn.answer.get("user_acts_read", ())),
            made_by=by,
            taken_up=None,
            at=time.time(),
        )
        with writing(self._engine) as connection:
            same = bot_corrections.c.session_id == session.id, bot_corrections.c.number == turn.number
            connection.execute(delete(bot_corrections).where(*same))
            have = connection.execute(
                select(bot_corrections.c.id).where(bot_corrections.c.bot_id == bot.id).limit(MOST + 1)
            ).all()
            if len(have) >= MOST:
                raise Problem(
                    Kind.TOO_MANY,
                    "too-many-corrections",
                    "There are too many corrections",
                    f"A bot may have {MOST:,}.",
                    remedy="Train a version from them, and delete dialogs that are of no more use.",
                )
            connection.execute(insert(bot_corrections).values(_row(bot, correction)))
            later = bot_turns.c.session_id == session.id, bot_turns.c.number > turn.number
            connection.execute(update(bot_turns).where(*later).values(stale=True))
        return correction

    def all(self, bot: BotRecord) -> Sequence[Correction]:
        """Every correction of a bot, the oldest first."""
        with reading(self._engine) as connection:
            query = select(bot_corrections).where(bot_corrections.c.bot_id == bot.id).order_by(bot_corrections.c.id)
            return [_correction(row._asdict()) for row in connection.execute(query)]

    def fresh(self, bot: BotRecord, version: int) -> Sequence[Correction]:
        """Corrections that ``version`` was not trained on: what it has to remember."""
        return [one for one in self.all(bot) if one.taken_up is None or one.taken_up > version]

    def stamp(self, bot: BotRecord) -> tuple[int, str]:
        """Another value whenever a correction came or went: cheaper to ask for than the corrections."""
        with reading(self._engine) as connection:
            counted = select(func.count(), func.max(bot_corrections.c.id)).where(bot_corrections.c.bot_id == bot.id)
            count, newest = connection.execute(counted).one()
        return count, newest or ""

    def taken_up(self, ids: Sequence[str], version: int) -> None:
        """Note that a version was trained on them."""
        with writing(self._engine) as connection:
            fresh = bot_corrections.c.id.in_(ids), bot_corrections.c.taken_up.is_(None)
            connection.execute(update(bot_corrections).where(*fresh).values(taken_up=version))


def _row(bot: BotRecord, one: Correction) -> dict[str, Any]:
    return {
        "id": one.id,
        "bot_id": bot.id,
        "session_id": one.session_id,
        "number": one.number,
        "text": one.text,
        "context": one.context,
        "system": [list(act) for act in one.system],
        "acts": [list(act) for act in one.acts],
        "spans": [[span.slot, span.start, span.end, span.value] for span in one.spans],
        "vector": np.asarray(one.vector, "<f4").tobytes(),
        "was": [list(act) for act in one.was],
        "made_by": one.made_by,
        "taken_up": one.taken_up,
        "at": one.at,
    }


def _correction(row: Mapping[str, Any]) -> Correction:
    kept = {name: value for name, value in row.items() if name != "bot_id"}
    return Correction(
        **kept
        | {
            "system": tuple(Act(*act) for act in row["system"]),
            "acts": tuple(Act(*act) for act in row["acts"]),
            "was": tuple(Act(*act) for act in row["was"]),
            "spans": tuple(Span(*span) for span in row["spans"]),
            "vector": np.frombuffer(row["vector"], "<f4").astype(np.float32),
        }
    )


def _wrong(pointer: str, said: str, remedy: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "correction-act",
        "The correction does not fit the schema",
        f"{said}.",
        pointer=pointer,
        remedy=remedy,
    )
