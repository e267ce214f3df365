"""Sessions with a bot: each turn is written with what stood before it, so that it can be undone, seen and taught."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, delete, insert, select, update

from services.dialog.bot import Standing
from services.dialog.store import BotRecord
from services.errors import Kind, Problem
from services.storage.database import reading, writing
from services.storage.ids import is_id, new_id
from services.storage.tables import bot_sessions, bot_turns, bots

MOST_TURNS = 200
"""Of one session."""

Status = Literal["unreviewed", "approved", "rejected"]
Outcome = Literal["open", "done", "fallback"]


@dataclass(frozen=True, slots=True)
class Session:
    """``turn`` is the number of the next one; ``confidence`` that of the least sure turn so far."""

    id: str
    bot_id: str
    version: int
    standing: Standing
    turn: int
    closed: bool
    status: str
    outcome: str
    confidence: float
    created_at: float
    used_at: float


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A turn as it is kept: ``before`` is what it began with, ``answer`` what was answered, as JSON."""

    session_id: str
    number: int
    text: str
    before: Standing
    answer: Mapping[str, Any]
    stale: bool
    at: float


class SessionStore:
    """Methods block; from async code, call them in a thread."""

    def __init__(self, engine: Engine, *, expire_seconds: float = 3_600.0, keep_seconds: float = 30 * 86_400.0) -> None:
        """Sessions take turns until ``expire_seconds`` after the last, and are kept ``keep_seconds`` for teachers."""
        self._engine = engine
        self._expire = expire_seconds
        self._keep = keep_seconds

    def open(self, bot: BotRecord, version: int, standing: Standing) -> Session:
        """A new session with one version of a bot."""
        now = time.time()
        session = Session(new_id("ses"), bot.id, version, standing, 0, False, "unreviewed", "open", 1.0, now, now)
        with writing(self._engine) as connection:
            values = {name: getattr(session, name) for name in session.__slots__}
            connection.execute(insert(bot_sessions).values(values | {"standing": standing.document()}))
            # Here, and not in a task of its own: a bot that nobody talks to gathers nothing.
            old = bot_sessions.c.bot_id == bot.id, bot_sessions.c.used_at < now - self._keep
            connection.execute(delete(bot_sessions).where(*old, bot_sessions.c.status == "unreviewed"))
        return session

    def get(self, owner: str, session_id: str, bot: BotRecord | None = None) -> Session:
        """One session of the owner's bots. Raises ``session-not-found``, whether unknown, expired or another's."""
        if is_id(session_id, "ses"):
            with reading(self._engine) as connection:
                query = select(bot_sessions).join(bots, bots.c.id == bot_sessions.c.bot_id)
                query = query.where(bot_sessions.c.id == session_id, bots.c.owner == owner)
                row = connection.execute(query).one_or_none()
            if row is not None and (bot is None or row.bot_id == bot.id):
                return _session(row._asdict())
        raise Problem(
            Kind.NOT_FOUND,
            "session-not-found",
            "Session does not exist",
            f"No session of yours is called {session_id[:64]!r}.",
            remedy="Open one: POST /v1/bots/{id}/sessions.",
        )

    def check_open(self, session: Session) -> None:
        """Raise ``session-closed`` for one that takes no more turns: said goodbye, too long ago, or too many."""
        said = (
            "It was closed."
            if session.closed
            else f"It was last used {time.time() - session.used_at:,.0f} s ago; {self._expire:,.0f} s is the most."
            if time.time() - session.used_at > self._expire
            else f"It has {session.turn} turns, which is the most."
            if session.turn >= MOST_TURNS
            else ""
        )
        if said:
            raise Problem(
                Kind.CONFLICT,
                "session-closed",
                "The session takes no more turns",
                said,
                remedy="Open another: POST /v1/bots/{id}/sessions; GET .../turns still shows this one.",
            )

    def add_turn(
        self,
        session: Session,
        text: str,
        answer: Mapping[str, Any],
        after: Standing,
        *,
        confidence: float,
        outcome: Outcome,
    ) -> Session:
        """Write a turn, if the session still stands where ``session`` stood; raises ``turn-conflict`` if not."""
        now = time.time()
        with writing(self._engine) as connection:
            worst = min(session.confidence, confidence)
            values = {
                "standing": after.document(),
                "turn": session.turn + 1,
                "closed": outcome == "done",
                "outcome": outcome,
                "confidence": worst,
                "used_at": now,
            }
            same = bot_sessions.c.id == session.id, bot_sessions.c.turn == session.turn
            if connection.execute(update(bot_sessions).where(*same).values(values)).rowcount != 1:
                raise turn_conflict(session.turn)
            connection.execute(
                insert(bot_turns).values(
                    session_id=session.id,
                    number=session.turn,
                    text=text,
                    before=session.standing.document(),
                    answer=dict(answer),
                    stale=False,
                    at=now,
                )
            )
        return _session({**{name: getattr(session, name) for name in session.__slots__}, **values})

    def turns(self, session: Session) -> Sequence[KeptTurn]:
        """Its turns, in their order."""
        with reading(self._engine) as connection:
            query = select(bot_turns).where(bot_turns.c.session_id == session.id).order_by(bot_turns.c.number)
            return [_turn(row._asdict()) for row in connection.execute(query)]

    def turn(self, session: Session, number: int) -> KeptTurn:
        """One of them; raises ``turn-not-found``."""
        with reading(self._engine) as connection:
            same = bot_turns.c.session_id == session.id, bot_turns.c.number == number
            row = connection.execute(select(bot_turns).where(*same)).one_or_none()
        if row is None:
            raise Problem(
                Kind.NOT_FOUND,
                "turn-not-found",
                "Turn does not exist",
                f"The session has no turn {number}; it has {session.turn}.",
                remedy="Turns are numbered from 0: GET .../turns lists them.",
            )
        return _turn(row._asdict())

    def back_to(self, session: Session, number: int) -> Session:
        """Undo turn ``number`` and all after it: the session stands where that turn began."""
        kept = self.turn(session, number)

        def change(connection: Connection) -> dict[str, Any]:
            later = bot_turns.c.session_id == session.id, bot_turns.c.number >= number
            connection.execute(delete(bot_turns).where(*later))
            return {"standing": kept.before.document(), "turn": number, "closed": False, "outcome": "open"}

        return self._changed(session, change)

    def close(self, session: Session) -> Session:
        """End a session: it takes no more turns."""
        return self._changed(session, lambda connection: {"closed": True})

    def review(self, session: Session, status: Status) -> Session:
        """Say of a dialog that it was looked at."""
        return self._changed(session, lambda connection: {"status": status})

    def delete(self, session: Session) -> None:
        """Remove a session and what was said in it."""
        with writing(self._engine) as connection:
            connection.execute(delete(bot_sessions).where(bot_sessions.c.id == session.id))

    def dialogs(
        self,
        bot: BotRecord,
        *,
        status: Status | None = None,
        outcome: Outcome | None = None,
        below: float | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Sequence[Session]:
        """Dialogs with a bot, the newest first: what there is to teach. ``below`` is a confidence."""
        query = select(bot_sessions).where(bot_sessions.c.bot_id == bot.id, bot_sessions.c.turn > 0)
        if status is not None:
            query = query.where(bot_sessions.c.status == status)
        if outcome is not None:
            query = query.where(bot_sessions.c.outcome == outcome)
        if below is not None:
            query = query.where(bot_sessions.c.confidence < below)
        if after is not None:
            query = query.where(bot_sessions.c.id < after)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(bot_sessions.c.id.desc()).limit(limit))
            return [_session(row._asdict()) for row in rows]

    def _changed(self, session: Session, change: Callable[[Connection], dict[str, Any]]) -> Session:
        with writing(self._engine) as connection:
            values = change(connection) | {"used_at": time.time()}
            same = bot_sessions.c.id == session.id, bot_sessions.c.turn == session.turn
            if connection.execute(update(bot_sessions).where(*same).values(values)).rowcount != 1:
                raise turn_conflict(session.turn)
            row = connection.execute(select(bot_sessions).where(bot_sessions.c.id == session.id)).one()
        return _session(row._asdict())


def turn_conflict(expected: int) -> Problem:
    """Two turns at once: one was answered, the other belongs to a dialog that is no longer there."""
    return Problem(
        Kind.CONFLICT,
        "turn-conflict",
        "The session has gone on",
        f"It is no longer at turn {expected}: another request was answered meanwhile.",
        pointer="/turn",
        remedy="Read GET .../turns, and send the next turn with its number.",
    )


def _session(row: Mapping[str, Any]) -> Session:
    standing = row["standing"]
    return Session(**{**row, "standing": standing if isinstance(standing, Standing) else Standing.of(standing)})


def _turn(row: Mapping[str, Any]) -> KeptTurn:
    return KeptTurn(**{**row, "before": Standing.of(row["before"])})
