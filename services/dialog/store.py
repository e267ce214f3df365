"""Bots and their versions as they are kept: rows in the database, heads and rows of a bot's own in artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.dialog.checks import Finding, check_schema, read_schema
from services.dialog.database import Table, read_rows
from services.dialog.schema import Schema
from services.dialog.understanding.heads import Heads
from services.errors import Kind, Problem
from services.storage.artifacts import Artifact, ArtifactStore
from services.storage.database import reading, writing
from services.storage.ids import is_id, new_id
from services.storage.tables import artifacts, bot_versions, bots

_ROWS = ".rows"
_UNUSED_SECONDS = 6 * 3_600.0
"""Rows that were replaced stay so long: a training may have begun with them."""

MOST_BOTS = 200
"""Of one key."""


@dataclass(frozen=True, slots=True)
class BotRecord:
    """A bot as its owner sees it. ``schema`` is what its next version is made of; ``serving`` a version, or none."""

    id: str
    owner: str
    name: str
    schema: Mapping[str, Any]
    rows_artifact: str | None
    serving: int | None
    canary: int | None
    canary_share: float
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version. ``measured`` are figures of its making, by name."""

    bot_id: str
    number: int
    schema: Mapping[str, Any]
    rows_artifact: str | None
    heads_artifact: str
    engine: str
    encoder: str
    measured: Mapping[str, Any]
    job_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Made:
    """What a training gives: heads for a schema and its rows, the encoder they were fitted to, and figures."""

    schema: Mapping[str, Any]
    rows_artifact: str | None
    heads: Heads
    encoder: str
    measured: Mapping[str, Any]
    job_id: str


class BotStore:
    """The bots of every key. Methods block; from async code, call them in a thread."""

    def __init__(self, engine: Engine, store: ArtifactStore) -> None:
        self.engine = engine
        self._artifacts = store

    # Bots

    def create(
        self, owner: str, name: str, document: Mapping[str, Any], rows: bytes | None
    ) -> tuple[BotRecord, list[Finding]]:
        """Make a bot without a version. Raises ``bot-schema``, ``bot-exists``, ``too-many-bots``, and what rows do."""
        _, warnings = checked(document, rows)
        now = time.time()
        record = BotRecord(new_id("bot"), owner, name, document, None, None, None, 0.0, now, now)

        def keep(connection: Connection, artifact: Artifact | None) -> BotRecord:
            have = connection.scalar(select(func.count()).select_from(bots).where(bots.c.owner == owner)) or 0
            if have >= MOST_BOTS:
                raise Problem(
                    Kind.TOO_MANY,
                    "too-many-bots",
                    "There are too many bots",
                    f"A key may have {MOST_BOTS} bots.",
                    remedy="Delete one: DELETE /v1/bots/{id}.",
                )
            kept = _with(record, rows_artifact=artifact.id if artifact else None)
            connection.execute(insert(bots).values(_row(kept)))
            return kept

        try:
            return self._with_rows(owner, rows, keep, f"{record.id}{_ROWS}"), warnings
        except IntegrityError as error:
            raise Problem(
                Kind.CONFLICT,
                "bot-exists",
                "A bot has this name",
                f"You have a bot called {name!r}.",
                pointer="/name",
                remedy="Choose another name, or change that bot: PUT /v1/bots/{id}.",
            ) from error

    def change(
        self, owner: str, reference: str, document: Mapping[str, Any] | None, rows: bytes | None
    ) -> tuple[BotRecord, list[Finding]]:
        """Give a bot another schema, other rows, or both; its versions stay as they are."""
        bot = self.get(owner, reference)
        gone: list[str] = []
        schema = bot.schema if document is None else document
        data = rows if rows is not None else self._rows_of(bot.rows_artifact)
        _, warnings = checked(schema, data)

        def keep(connection: Connection, artifact: Artifact | None) -> BotRecord:
            changed = _with(
                bot,
                schema=schema,
                rows_artifact=artifact.id if artifact else bot.rows_artifact,
                updated_at=time.time(),
            )
            values = {
                "schema": changed.schema,
                "rows_artifact": changed.rows_artifact,
                "updated_at": changed.updated_at,
            }
            connection.execute(update(bots).where(bots.c.id == bot.id).values(values))
            gone.extend(_remove_unused(connection, changed))
            return changed

        changed = self._with_rows(owner, rows, keep, f"{bot.id}{_ROWS}")
        self._artifacts.collect(gone)
        return changed, warnings

    def get(self, owner: str, reference: str) -> BotRecord:
        """By id or by name. Raises ``bot-not-found``, whether unknown or another's."""
        column = bots.c.id if is_id(reference, "bot") else bots.c.name
        with reading(self.engine) as connection:
            row = connection.execute(select(bots).where(column == reference, bots.c.owner == owner)).one_or_none()
        if row is None:
            raise Problem(
                Kind.NOT_FOUND,
                "bot-not-found",
                "Bot does not exist",
                f"No bot of yours is called {reference[:64]!r}.",
                remedy="List yours with GET /v1/bots; bots belong to the key that made them.",
            )
        return BotRecord(**row._asdict())

    def list(self, owner: str, *, limit: int = 100, after: str | None = None) -> list[BotRecord]:
        """The owner's bots, newest first, those before the id ``after``."""
        query = select(bots).where(bots.c.owner == owner)
        if after is not None:
            query = query.where(bots.c.id < after)
        with reading(self.engine) as connection:
            return [
                BotRecord(**row._asdict()) for row in connection.execute(query.order_by(bots.c.id.desc()).limit(limit))
            ]

    def delete(self, owner: str, reference: str) -> None:
        """Remove a bot with its versions, dialogs and corrections."""
        bot = self.get(owner, reference)
        with writing(self.engine) as connection:
            heads = select(bot_versions.c.heads_artifact).where(bot_versions.c.bot_id == bot.id)
            rows = select(artifacts.c.id).where(artifacts.c.owner == owner, artifacts.c.name == f"{bot.id}{_ROWS}")
            ids = [*connection.scalars(heads), *connection.scalars(rows.where(artifacts.c.role == "bot"))]
            hashes = list(connection.scalars(select(artifacts.c.sha256).where(artifacts.c.id.in_(ids))))
            connection.execute(delete(bots).where(bots.c.id == bot.id))
            connection.execute(delete(artifacts).where(artifacts.c.id.in_(ids)))
        self._artifacts.collect(hashes)

    # Versions

    def add_version(self, bot: BotRecord, made: Made) -> VersionRecord:
        """Keep what a job made; the same job again gives the version that it made before."""
        known = self._of_job(bot.id, made.job_id)
        if known is not None:
            return known

        with self._artifacts.draft() as draft:
            draft.write(made.heads.save())

            def keep(connection: Connection) -> VersionRecord:
                last = select(func.max(bot_versions.c.number)).where(bot_versions.c.bot_id == bot.id)
                artifact = self._artifacts.record(
                    connection,
                    draft,
                    bot.owner,
                    f"{bot.name}-heads.safetensors",
                    "application/octet-stream",
                    role="bot",
                )
                version = VersionRecord(
                    bot_id=bot.id,
                    number=(connection.scalar(last) or 0) + 1,
                    schema=made.schema,
                    rows_artifact=made.rows_artifact,
                    heads_artifact=artifact.id,
                    engine="hybrid",
                    encoder=made.encoder,
                    measured=made.measured,
                    job_id=made.job_id,
                    created_at=time.time(),
                )
                connection.execute(insert(bot_versions).values(_row(version)))
                first = bots.c.id == bot.id, bots.c.serving.is_(None)
                connection.execute(update(bots).where(*first).values(serving=version.number))
                return version

            return self._artifacts.publish([draft], keep)

    def version(self, bot: BotRecord, number: int) -> VersionRecord:
        """One version; raises ``bot-version-not-found``."""
        with reading(self.engine) as connection:
            same = bot_versions.c.bot_id == bot.id, bot_versions.c.number == number
            row = connection.execute(select(bot_versions).where(*same)).one_or_none()
        if row is None:
            raise Problem(
                Kind.NOT_FOUND,
                "bot-version-not-found",
                "Version does not exist",
                f"The bot {bot.name!r} has no version {number}.",
                remedy=f"GET /v1/bots/{bot.id}/versions lists them.",
            )
        return VersionRecord(**row._asdict())

    def versions(self, bot: BotRecord) -> Sequence[VersionRecord]:
        """All of them, the newest first."""
        with reading(self.engine) as connection:
            query = select(bot_versions).where(bot_versions.c.bot_id == bot.id).order_by(bot_versions.c.number.desc())
            return [VersionRecord(**row._asdict()) for row in connection.execute(query.limit(1_000))]

    def serve(self, bot: BotRecord, *, serving: int, canary: int | None = None, share: float = 0.0) -> BotRecord:
        """Choose the version that new sessions get, and another that a ``share`` of them gets."""
        for number in (serving, canary):
            if number is not None:
                self.version(bot, number)
        with writing(self.engine) as connection:
            values = {"serving": serving, "canary": canary, "canary_share": share, "updated_at": time.time()}
            connection.execute(update(bots).where(bots.c.id == bot.id).values(values))
        return self.get(bot.owner, bot.id)

    # What they are made of

    def read(self, schema: Mapping[str, Any], rows_artifact: str | None) -> tuple[Schema, Table | None]:
        """A schema and its rows, as they were checked when they came."""
        parsed = Schema.model_validate(schema)
        data = self._rows_of(rows_artifact)
        if data is None or parsed.database is None:
            return parsed, None
        return parsed, Table(parsed.database, read_rows(data, parsed.database.table)[1])

    def heads(self, version: VersionRecord) -> Heads:
        """The heads of a version."""
        artifact = self._artifacts.by_id(version.heads_artifact)
        return Heads.load(b"".join(self._artifacts.read(artifact)))

    def _rows_of(self, artifact_id: str | None) -> bytes | None:
        if artifact_id is None:
            return None
        artifact = self._artifacts.by_id(artifact_id)
        return b"".join(self._artifacts.read(artifact))

    def _of_job(self, bot_id: str, job_id: str) -> VersionRecord | None:
        with reading(self.engine) as connection:
            same = bot_versions.c.bot_id == bot_id, bot_versions.c.job_id == job_id
            row = connection.execute(select(bot_versions).where(*same)).one_or_none()
        return None if row is None else VersionRecord(**row._asdict())

    def _with_rows(
        self, owner: str, rows: bytes | None, keep: Callable[[Connection, Artifact | None], BotRecord], name: str
    ) -> BotRecord:
        """Run ``keep`` in one transaction with the artifact ``name`` that holds ``rows``, if there are some."""
        if rows is None:
            with writing(self.engine) as connection:
                return keep(connection, None)
        with self._artifacts.draft() as draft:
            draft.write(rows)

            def both(connection: Connection) -> BotRecord:
                media_type = "application/octet-stream"
                return keep(connection, self._artifacts.record(connection, draft, owner, name, media_type, role="bot"))

            return self._artifacts.publish([draft], both)


def checked(document: Mapping[str, Any], rows: bytes | None) -> tuple[Schema, list[Finding]]:
    """A schema that a bot can be made from, with warnings. Raises ``bot-schema`` that names every error."""
    schema, findings = read_schema(document)
    table: Table | None = None
    if schema is not None and rows is not None and schema.database is not None:
        columns, read = read_rows(rows, schema.database.table)
        lacking = [column for column in schema.database.columns if column not in columns]
        findings += [
            Finding(
                "error",
                f"/database/columns/{column}",
                f"the rows have no column {column!r}",
                f"Theirs are {', '.join(columns[:20])}.",
            )
            for column in lacking
        ]
        table = None if lacking else Table(schema.database, read)
    if schema is not None:
        findings += check_schema(schema, table)
        if schema.database is not None and rows is None:
            findings.append(
                Finding("warning", "/database", "there are no rows yet", "Send them: PUT /v1/bots/{id}/database.")
            )

    errors = [finding for finding in findings if finding.level == "error"]
    if schema is None or errors:
        first = errors[0]
        raise Problem(
            Kind.INVALID,
            "bot-schema",
            "The schema cannot be used",
            f"{first.path}: {first.message}." + (f" And {len(errors) - 1} more." if len(errors) > 1 else ""),
            pointer=f"/schema{first.path}",
            remedy=first.remedy,
            extra={"findings": [finding_document(finding) for finding in findings[:100]]},
        )
    return schema, findings


def finding_document(finding: Finding) -> dict[str, str]:
    """As JSON."""
    return {"level": finding.level, "path": finding.path, "message": finding.message, "remedy": finding.remedy}


def _remove_unused(connection: Connection, bot: BotRecord) -> Sequence[str]:
    """Remove rows that a bot had and that neither it nor a version has now; returns hashes to collect."""
    kept = select(bot_versions.c.rows_artifact).where(bot_versions.c.bot_id == bot.id)
    unused = (
        artifacts.c.owner == bot.owner,
        artifacts.c.role == "bot",
        artifacts.c.name == f"{bot.id}{_ROWS}",
        artifacts.c.id != (bot.rows_artifact or ""),
        artifacts.c.id.not_in(kept.where(bot_versions.c.rows_artifact.is_not(None))),
        artifacts.c.created_at < time.time() - _UNUSED_SECONDS,
    )
    hashes = list(connection.scalars(select(artifacts.c.sha256).where(*unused)))
    connection.execute(delete(artifacts).where(*unused))
    return hashes


def _row(record: BotRecord | VersionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _with(record: BotRecord, **changes: Any) -> BotRecord:
    return BotRecord(**(_row(record) | changes))
