"""Every table, as SQLAlchemy Core. Times are Unix seconds (UTC); a change here needs a migration beside it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # The first characters of the secret: shown to people, and how a key is looked up before its hash is compared.
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("rate", Double),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Index(None, "prefix"),
)

# Content, by its hash. A row is locked while an artifact that names it is added, and while it is collected.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
)

# Named content: what was uploaded, and what a job made. Several artifacts may share a blob.
artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE")),
    Column("role", Text, nullable=False),  # upload | output | checkpoint | segment
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("sha256", Text, ForeignKey("blobs.sha256"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("job_id", "role", "name"),
    Index(None, "owner", "role", "id"),
    Index(None, "sha256"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),  # queued | running | succeeded | failed | cancelled
    Column("priority", Integer, nullable=False),  # 0 to 9, the larger first
    Column("parameters", JSON, nullable=False),
    Column("fingerprint", Text, nullable=False),  # of kind and parameters: what an idempotency key stands for
    Column("idempotency_key", Text),
    # The lease. The fence grows with every claim; only the worker that holds the present one may write. The beat
    # grows with every sign of life: whoever watches it needs no clock but its own.
    Column("attempt", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("worker", Text),
    Column("deaths", Integer, nullable=False),  # workers lost in a row since the last checkpoint
    Column("checkpoint", Text),  # artifact id
    Column("cancel_requested", Boolean, nullable=False),
    Column("dispatched", Boolean, nullable=False),  # whether the broker was told of it
    Column("progress", JSON, nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("event_seq", Integer, nullable=False),
    Column("webhook", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double, nullable=False),
    Column("started_at", Double),
    Column("progress_at", Double),
    Column("finished_at", Double),
    Column("traceparent", Text),  # the trace of the request that submitted it
    UniqueConstraint("owner", "idempotency_key"),
    Index(None, "owner", "id"),
    Index(None, "owner", "state", "id"),
    Index(None, "state", "kind", "queue"),
    Index(None, "state", "dispatched", "priority", "id"),
    Index(None, "finished_at"),
)

# What happened to a job, in order: the stream that a watcher resumes by ``seq``.
job_events = Table(
    "job_events",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("event", Text, nullable=False),  # progress | state | metric | log
    Column("data", JSON, nullable=False),
    Column("at", Double, nullable=False),
)

# Sums over every job that ever ended, whether its row is still kept or not: counters must not go down.
job_totals = Table(
    "job_totals",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("jobs", BigInteger, nullable=False),
    Column("wait_seconds", Double, nullable=False),
    Column("run_seconds", Double, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("event", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending | delivered | failed
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "job_id"),
    Index(None, "state"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", Text, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("seconds", Double),
)

# Uploaded data sets. The package (see services.datasets.package) is an artifact; the rest is what listings show.
datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("task", Text, nullable=False),  # classification | multilabel | detection | captions
    Column("format", Text, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("splits", JSON, nullable=False),  # images of every split
    Column("counts", JSON, nullable=False),  # labelled images, or boxes, of every class
    Column("flaws", JSON, nullable=False),  # what was left out, and why
    Column("flaw_count", Integer, nullable=False),
    Column("artifact_id", Text, ForeignKey("artifacts.id"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("account", JSON),  # the layout, and what became of every file and annotation
    Index(None, "owner", "id"),
    UniqueConstraint("owner", "name"),
)

# Task bots. What a version is made of lies in artifacts of role ``bot``: heads and rows.
bots = Table(
    "bots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("schema", JSON, nullable=False),
    Column("rows_artifact", Text, ForeignKey("artifacts.id")),
    Column("serving", Integer),  # the version that new sessions get
    Column("canary", Integer),
    Column("canary_share", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(None, "owner", "id"),
    UniqueConstraint("owner", "name"),
)

# A version never changes. ``job_id`` made it, and is what a repeated attempt finds it by.
bot_versions = Table(
    "bot_versions",
    metadata,
    Column("bot_id", Text, ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("schema", JSON, nullable=False),
    Column("rows_artifact", Text, ForeignKey("artifacts.id")),
    Column("heads_artifact", Text, ForeignKey("artifacts.id"), nullable=False),
    Column("engine", Text, nullable=False),
    Column("encoder", Text, nullable=False),  # name@version
    Column("measured", JSON, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("bot_id", "job_id"),
)

bot_sessions = Table(
    "bot_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bot_id", Text, ForeignKey("bots.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("standing", JSON, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("status", Text, nullable=False),  # unreviewed | approved | rejected
    Column("outcome", Text, nullable=False),  # open | done | fallback
    Column("confidence", Double, nullable=False),  # of its least sure turn
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Index(None, "bot_id", "status", "id"),
    Index(None, "used_at"),
)

# ``before`` is the standing that the turn began with: what undoing it goes back to.
bot_turns = Table(
    "bot_turns",
    metadata,
    Column("session_id", Text, ForeignKey("bot_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("before", JSON, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("stale", Boolean, nullable=False),  # an earlier turn was corrected after it
    Column("at", Double, nullable=False),
)

# What teachers said a turn means. ``taken_up`` is the first version that was trained on it.
bot_corrections = Table(
    "bot_corrections",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bot_id", Text, ForeignKey("bots.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("system", JSON, nullable=False),
    Column("acts", JSON, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("was", JSON, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("taken_up", Integer),
    Column("at", Double, nullable=False),
    UniqueConstraint("session_id", "number"),
    Index(None, "bot_id", "id"),
)

# Small values that every process of the platform shares, such as the key that signs a job's own requests.
platform_values = Table(
    "platform_values",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
