"""Talking to bots: versions kept open, texts through the encoder, a turn answered and written down."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.dialog.acts import Act
from services.dialog.bot import Bot, BotTurn, Standing, context_key, near
from services.dialog.schema import Action
from services.dialog.sessions import KeptTurn, Outcome, Session, SessionStore, turn_conflict
from services.dialog.store import BotRecord, BotStore, VersionRecord
from services.dialog.teaching import Correction, TeachingStore, read_acts
from services.dialog.understanding.heads import Floats
from services.dialog.understanding.space import Offsets
from services.errors import Kind, Problem
from services.runtime.protocol import ModelHandle, Options, as_float32
from services.storage.ids import new_id
from services.text.tokenizer import Tokenizer

LONGEST = 2_000
"""Characters of a turn: what a person types."""

_OPEN, _OPEN_CELLS = 32, 4_000_000
"""Versions that are kept in memory, and cells of their tables together; the least used leave."""

Resolve = Callable[[str, str], Awaitable[ModelHandle]]
"""Name and version of a model to its handle: encoders are looked up as any model."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn that was answered, and the session after it."""

    session: Session
    number: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    tokens: Floats
    offsets: Offsets
    sentence: Floats


@dataclass(slots=True)
class _Opened:
    """A version in memory; ``stamp`` tells which corrections it remembers."""

    bot: Bot
    stamp: tuple[int, str]
    cells: int


class Talking:
    """The bots of a gateway process. Holds open versions, and nothing of a dialog: any process can take a turn."""

    def __init__(self, store: BotStore, sessions: SessionStore, teaching: TeachingStore) -> None:
        self.store = store
        self.sessions = sessions
        self.teaching = teaching
        self._open: OrderedDict[tuple[str, int], _Opened] = OrderedDict()
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    async def begin(self, bot: BotRecord, version: int | None = None) -> Session:
        """Open a session with the version that is served, or with a canary in its share of sessions.

        Raises ``bot-untrained`` where there is no version yet.
        """
        number = version or self._drawn(bot)
        record = await asyncio.to_thread(self.store.version, bot, number)
        opened = await self._bot(bot, record)
        return await asyncio.to_thread(self.sessions.open, bot, number, opened.begin())

    def serving(self, bot: BotRecord) -> VersionRecord:
        """The version that a new session gets; blocks."""
        return self.store.version(bot, self._drawn(bot))

    async def beginning(self, bot: BotRecord, record: VersionRecord) -> Standing:
        """A dialog with a version in which nothing was said."""
        return (await self._bot(bot, record)).begin()

    async def turn(
        self,
        bot: BotRecord,
        session: Session,
        text: str,
        resolve: Resolve,
        options: Options,
        *,
        number: int | None = None,
    ) -> Answer:
        """Answer ``text`` in ``session``. ``number`` is the turn that is meant; the one before it, with the same
        text, is answered as it was.

        Raises ``turn-*``, ``session-closed`` and what the encoder raises; then the session stands as before.
        """
        said = _checked(text)
        if number is not None and number == session.turn - 1:
            kept = await asyncio.to_thread(self.sessions.turn, session, number)
            if kept.text == said:
                return Answer(session, number, kept.answer)
        if number is not None and number != session.turn:
            raise turn_conflict(number)
        self.sessions.check_open(session)

        record = await asyncio.to_thread(self.store.version, bot, session.version)
        answered, document = await self.answer(bot, record, session.standing, said, resolve, options)
        outcome: Outcome = "done" if answered.done else "fallback" if answered.fallback else "open"
        after = await asyncio.to_thread(
            self.sessions.add_turn,
            session,
            said,
            document,
            answered.standing,
            confidence=answered.understood.confidence,
            outcome=outcome,
        )
        return Answer(after, session.turn, document)

    async def answer(
        self, bot: BotRecord, record: VersionRecord, standing: Standing, text: str, resolve: Resolve, options: Options
    ) -> tuple[BotTurn, dict[str, Any]]:
        """The turn after ``standing``, and its document; nothing is written."""
        opened = await self._bot(bot, record)
        read = await self._encode(record.encoder, text, resolve, options)
        calls: list[tuple[Action, Mapping[str, str], str]] = []

        def handed_over(action: Action, slots: Mapping[str, str]) -> Mapping[str, str]:
            """An action is the application's to do: the answer names it, with an id that the user is told."""
            reference = new_id("act")[-8:]
            calls.append((action, dict(slots), reference))
            return dict.fromkeys(action.results, reference)

        def work() -> BotTurn:
            understood = opened.understand(text, read.tokens, read.offsets, read.sentence, standing)
            return opened.turn(standing, understood, handed_over)

        # In a thread: a search in a large table takes long, and others wait for the loop.
        answered = await asyncio.to_thread(work)
        return answered, _document(bot, record, answered, calls)

    async def correct(
        self,
        bot: BotRecord,
        session: Session,
        turn: KeptTurn,
        said: Sequence[Mapping[str, str]],
        resolve: Resolve,
        options: Options,
        *,
        by: str,
    ) -> Correction:
        """Keep what a teacher says that a turn means, and remember it at once."""
        record = await asyncio.to_thread(self.store.version, bot, session.version)
        opened = await self._bot(bot, record)
        acts, spans = read_acts(opened.schema, said, turn.text)
        read = await self._encode(record.encoder, turn.text, resolve, options)
        correction = await asyncio.to_thread(
            self.teaching.correct, bot, session, turn, acts=acts, spans=spans, vector=read.sentence, by=by
        )
        return correction

    async def preview(
        self,
        bot: BotRecord,
        session: Session,
        turn: KeptTurn,
        said: Sequence[Mapping[str, str]],
        resolve: Resolve,
        options: Options,
        dialogs: Sequence[KeptTurn],
    ) -> list[dict[str, Any]]:
        """Which of ``dialogs``' turns would be read otherwise if the correction were accepted; nothing is kept."""
        record = await asyncio.to_thread(self.store.version, bot, session.version)
        opened = await self._bot(bot, record)
        acts, _ = read_acts(opened.schema, said, turn.text)
        read = await self._encode(record.encoder, turn.text, resolve, options)
        changed = []
        for other in dialogs:
            if context_key(other.before.system) != context_key(turn.before.system):
                continue  # said after another question, it means something else
            there = await self._encode(record.encoder, other.text, resolve, options)
            if near(other.text, there.sentence, turn.text, read.sentence):
                now = opened.understand(other.text, there.tokens, there.offsets, there.sentence, other.before)
                if set(now.acts) != set(acts):
                    changed.append(
                        {
                            "session": other.session_id,
                            "turn": other.number,
                            "text": other.text,
                            "reads": [act_document(act) for act in now.acts],
                            "would_read": [act_document(act) for act in acts],
                        }
                    )
        return changed

    def _drawn(self, bot: BotRecord) -> int:
        if bot.serving is None:
            raise Problem(
                Kind.CONFLICT,
                "bot-untrained",
                "The bot has no version yet",
                f"Nothing was trained for {bot.name!r}.",
                remedy=f"Submit a job of kind train-bot for {bot.name!r}, or run `sightline bots train {bot.name}`.",
            )
        if bot.canary is None or secrets.randbelow(1_000_000) >= bot.canary_share * 1_000_000:
            return bot.serving
        return bot.canary

    async def _bot(self, bot: BotRecord, record: VersionRecord) -> Bot:
        """The version in memory, with the corrections that are there now."""
        key = bot.id, record.number
        known = self._open.get(key)

        def opened() -> _Opened:
            stamp = self.teaching.stamp(bot)
            if known is not None and known.stamp == stamp:
                return known
            taught = [one.taught() for one in self.teaching.fresh(bot, record.number)]
            if known is not None:
                known.bot.remember(taught)
                return _Opened(known.bot, stamp, known.cells)
            schema, table = self.store.read(record.schema, record.rows_artifact)
            cells = len(table.rows) * len(table.spec.columns) if table is not None else 0
            return _Opened(Bot(schema, table, self.store.heads(record), taught), stamp, cells)

        found = await asyncio.to_thread(opened)
        self._open[key] = found
        self._open.move_to_end(key)
        while len(self._open) > 1 and (
            len(self._open) > _OPEN or sum(one.cells for one in self._open.values()) > _OPEN_CELLS
        ):
            self._open.popitem(last=False)
        return found.bot

    async def _encode(self, encoder: str, text: str, resolve: Resolve, options: Options) -> _Read:
        name, _, version = encoder.partition("@")
        model = await resolve(name, version)
        tokenizer = await self._tokenizer(model)
        ((ids, offsets),) = tokenizer.aligned([text])
        with model:
            answer = await model.infer(dict(tokenizer.pack([ids])), ("tokens", "embedding"), options)
        tokens = as_float32(answer.outputs["tokens"])[0, : len(ids)]
        return _Read(tokens, offsets, as_float32(answer.outputs["embedding"])[0])

    async def _tokenizer(self, model: ModelHandle) -> Tokenizer:
        key = model.card.name, model.card.version
        if key not in self._tokenizers:
            spec = model.card.text
            assert spec is not None, "an encoder of bots reads text"
            self._tokenizers[key] = await asyncio.to_thread(Tokenizer, model.folder, spec)
        return self._tokenizers[key]


def act_document(act: Act) -> dict[str, str]:
    """As JSON: only what it has."""
    return {"name": act.name} | ({"slot": act.slot} if act.slot else {}) | ({"value": act.value} if act.value else {})


def _document(
    bot: BotRecord, record: VersionRecord, turn: BotTurn, calls: Sequence[tuple[Action, Mapping[str, str], str]]
) -> dict[str, Any]:
    action = None
    if calls:
        called, slots, reference = calls[-1]
        action = {"name": called.name, "arguments": dict(slots), "reference": reference, "status": "handed_over"}
    return {
        "response": turn.reply.text,
        "delexicalised": turn.reply.delexicalised,
        "belief": dict(turn.standing.belief),
        "belief_delta": dict(turn.belief_delta),
        "database": {"count": turn.count, "rows": [dict(row) for row in turn.rows]},
        "user_acts": [act_document(act) for act in turn.understood.acts],
        "user_acts_read": [list(act) for act in turn.understood.acts],
        "system_acts": [act_document(act) for act in turn.acts],
        "action": action,
        "flow": list(turn.path),
        "confidence": round(float(turn.understood.confidence), 4),
        "fallback": turn.fallback,
        "done": turn.done,
        "model": f"bot:{bot.name}",
        "version": record.number,
    }


def _checked(text: str) -> str:
    """A turn's text; raises ``turn-empty`` and ``turn-too-long``. Control characters are spaces."""
    plain = "".join(character if character.isprintable() else " " for character in text).strip()
    if not plain:
        raise Problem(
            Kind.INVALID,
            "turn-empty",
            "The turn says nothing",
            "There is no text in it.",
            pointer="/text",
            remedy="Send what the user said.",
        )
    if len(plain) > LONGEST:
        raise Problem(
            Kind.INVALID,
            "turn-too-long",
            "The turn is too long",
            f"It has {len(plain):,} characters of at most {LONGEST:,}.",
            pointer="/text",
            remedy="Send one turn, not a document.",
        )
    return plain
