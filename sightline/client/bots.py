"""Task bots of a key: ``client.bots``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sightline.client.halves import N, call, stream
from sightline.client.resource import Resource, json_of, nothing, read_answer, segment


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a schema: ``level`` is ``error`` or ``warning``, ``path`` a JSON pointer into it."""

    level: str
    path: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot. ``serving`` is the version that new sessions get, ``None`` before the first training."""

    id: str
    name: str
    serving: int | None
    canary: int | None
    canary_share: float
    has_rows: bool
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class BotVersion:
    """A version, and what was measured when it was made."""

    number: int
    serving: bool
    job: str
    measured: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BotSession:
    """A dialog; ``turn`` is the number of the next turn."""

    id: str
    bot: str
    version: int
    turn: int
    closed: bool
    status: str
    outcome: str
    confidence: float
    belief: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BotTurn:
    """A turn that was answered. ``count`` rows fit the belief, ``rows`` are the first of them."""

    number: int
    text: str
    response: str
    belief: Mapping[str, str]
    count: int
    rows: tuple[Mapping[str, str], ...]
    acts: tuple[Mapping[str, str], ...]
    action: Mapping[str, Any] | None
    confidence: float
    fallback: bool
    done: bool
    stale: bool


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction that was kept (``id``), or, as a preview, the logged turns that it ``would_change``."""

    id: str | None
    acts: tuple[Mapping[str, str], ...]
    stale_turns: tuple[int, ...]
    would_change: tuple[Mapping[str, Any], ...]


class Bots(Resource[N]):
    """Task bots on the platform. Every method raises :class:`APIError` or :class:`Unreachable`."""

    @call
    async def validate(self, schema: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Everything that is wrong with a schema, or will not work; errors first."""
        return await self._ask("POST", "/v1/bots:validate", _findings, body={"schema": schema})

    @call
    async def create(
        self, name: str, schema: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None = None
    ) -> Bot:
        """Make a bot; with :meth:`replace_rows` its rows may come from a file."""
        return await self._ask("POST", "/v1/bots", _one, body={"name": name, "schema": schema, "rows": rows})

    @call
    async def get(self, name: str) -> Bot:
        """A bot by its id or name."""
        return await self._ask("GET", f"/v1/bots/{segment(name)}", _one)

    @stream
    def list(self) -> AsyncIterator[Bot]:
        """Bots, newest first; further pages are fetched as they are reached."""
        return self._pages("/v1/bots", _bot)

    @call
    async def change(self, name: str, schema: Mapping[str, Any]) -> Bot:
        """Another schema for the versions to come."""
        return await self._ask("PUT", f"/v1/bots/{segment(name)}", _one, body={"schema": schema})

    @call
    async def replace_rows(self, name: str, content: bytes) -> Bot:
        """Rows as a CSV, JSON or SQLite file."""
        response = await self._send(
            "PUT",
            f"/v1/bots/{segment(name)}/database",
            content=content,
            headers={"Content-Type": "application/octet-stream"},
        )
        return read_answer(response, _one)

    @call
    async def delete(self, name: str) -> None:
        """Remove a bot with its versions, dialogs and corrections."""
        await self._ask("DELETE", f"/v1/bots/{segment(name)}", nothing)

    @call
    async def versions(self, name: str) -> tuple[BotVersion, ...]:
        """Versions, the newest first."""
        return await self._ask("GET", f"/v1/bots/{segment(name)}/versions", _versions)

    @call
    async def promote(self, name: str, version: int, *, canary: float | None = None, force: bool = False) -> Bot:
        """Serve a version to new sessions, or to the share ``canary`` of them."""
        path = f"/v1/bots/{segment(name)}/versions/{version}/promote"
        return await self._ask("POST", path, _one, body={"canary_share": canary, "force": force})

    @call
    async def open(self, name: str, version: int | None = None) -> BotSession:
        """A session in which nothing was said."""
        return await self._ask("POST", f"/v1/bots/{segment(name)}/sessions", _session, body={"version": version})

    @call
    async def say(self, session: BotSession | str, bot: str, text: str, *, turn: int | None = None) -> BotTurn:
        """Say ``text`` in a session. With its number a turn may be sent twice, and is answered once."""
        session_id = session if isinstance(session, str) else session.id
        path = f"/v1/bots/{segment(bot)}/sessions/{segment(session_id)}/turns"
        return await self._ask("POST", path, _turn_answer, body={"text": text, "turn": turn})

    @call
    async def turns(self, session: str, bot: str) -> tuple[BotTurn, ...]:
        """What was said in a session."""
        return await self._ask("GET", f"/v1/bots/{segment(bot)}/sessions/{segment(session)}/turns", _turns)

    @call
    async def undo(self, session: str, bot: str) -> BotSession:
        """Take the last turn back."""
        return await self._ask("POST", f"/v1/bots/{segment(bot)}/sessions/{segment(session)}/undo", _session)

    @stream
    def dialogs(self, name: str) -> AsyncIterator[BotSession]:
        """Dialogs with a bot, newest first: what there is to teach."""
        return self._pages(f"/v1/bots/{segment(name)}/dialogs", _session_of)

    @call
    async def correct(
        self, session: str, bot: str, turn: int, acts: Sequence[Mapping[str, str]], *, preview: bool = False
    ) -> Correction:
        """Say what a turn means; as a preview nothing is kept."""
        path = f"/v1/bots/{segment(bot)}/dialogs/{segment(session)}/turns/{turn}/corrections"
        return await self._ask("POST", path, _correction, body={"acts": list(acts), "preview": preview})


def _finding(one: Mapping[str, Any]) -> Finding:
    return Finding(one["level"], one["path"], one["message"], one["remedy"])


def _findings(response: httpx.Response) -> tuple[Finding, ...]:
    return tuple(_finding(one) for one in json_of(response)["findings"])


def _one(response: httpx.Response) -> Bot:
    return _bot(json_of(response))


def _bot(body: Mapping[str, Any]) -> Bot:
    return Bot(
        id=body["id"],
        name=body["name"],
        serving=body["serving"],
        canary=body["canary"],
        canary_share=body["canary_share"],
        has_rows=body["rows"],
        findings=tuple(_finding(one) for one in body.get("findings") or ()),
    )


def _versions(response: httpx.Response) -> tuple[BotVersion, ...]:
    data = json_of(response)["data"]
    return tuple(BotVersion(one["version"], one["serving"], one["job"], one["measured"]) for one in data)


def _session(response: httpx.Response) -> BotSession:
    return _session_of(json_of(response))


def _session_of(body: Mapping[str, Any]) -> BotSession:
    names = ("id", "bot", "version", "turn", "closed", "status", "outcome", "confidence", "belief")
    return BotSession(**{name: body[name] for name in names})


def _turn_answer(response: httpx.Response) -> BotTurn:
    return _turn(json_of(response))


def _turns(response: httpx.Response) -> tuple[BotTurn, ...]:
    return tuple(_turn(one) for one in json_of(response)["data"])


def _turn(body: Mapping[str, Any]) -> BotTurn:
    return BotTurn(
        number=body["turn"],
        text=body["text"],
        response=body["response"],
        belief=body["belief"],
        count=body["database"]["count"],
        rows=tuple(body["database"]["rows"]),
        acts=tuple(body["user_acts"]),
        action=body["action"],
        confidence=body["confidence"],
        fallback=body["fallback"],
        done=body["done"],
        stale=body["stale"],
    )


def _correction(response: httpx.Response) -> Correction:
    body = json_of(response)
    return Correction(
        body["id"], tuple(body["acts"]), tuple(body["stale_turns"]), tuple(body.get("would_change") or ())
    )
