"""Task bots: their versions, the dialogs that they have, and what they are taught."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "bots",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("schema", sa.JSON, nullable=False),
        sa.Column("rows_artifact", sa.Text, sa.ForeignKey("artifacts.id", name="fk_bots_rows_artifact_artifacts")),
        sa.Column("serving", sa.Integer),
        sa.Column("canary", sa.Integer),
        sa.Column("canary_share", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.UniqueConstraint("owner", "name", name="uq_bots_owner_name"),
    )
    op.create_index("ix_bots_owner_id", "bots", ["owner", "id"])
    op.create_table(
        "bot_versions",
        sa.Column("bot_id", sa.Text, _of_bot("bot_versions"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("schema", sa.JSON, nullable=False),
        sa.Column(
            "rows_artifact", sa.Text, sa.ForeignKey("artifacts.id", name="fk_bot_versions_rows_artifact_artifacts")
        ),
        sa.Column(
            "heads_artifact",
            sa.Text,
            sa.ForeignKey("artifacts.id", name="fk_bot_versions_heads_artifact_artifacts"),
            nullable=False,
        ),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("measured", sa.JSON, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("bot_id", "job_id", name="uq_bot_versions_bot_id_job_id"),
    )
    op.create_table(
        "bot_sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("bot_id", sa.Text, _of_bot("bot_sessions"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("standing", sa.JSON, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double, nullable=False),
    )
    op.create_index("ix_bot_sessions_bot_id_status_id", "bot_sessions", ["bot_id", "status", "id"])
    op.create_index("ix_bot_sessions_used_at", "bot_sessions", ["used_at"])
    op.create_table(
        "bot_turns",
        sa.Column(
            "session_id",
            sa.Text,
            sa.ForeignKey("bot_sessions.id", ondelete="CASCADE", name="fk_bot_turns_session_id_bot_sessions"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("stale", sa.Boolean, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "bot_corrections",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("bot_id", sa.Text, _of_bot("bot_corrections"), nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("system", sa.JSON, nullable=False),
        sa.Column("acts", sa.JSON, nullable=False),
        sa.Column("spans", sa.JSON, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("was", sa.JSON, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("taken_up", sa.Integer),
        sa.Column("at", sa.Double, nullable=False),
        sa.UniqueConstraint("session_id", "number", name="uq_bot_corrections_session_id_number"),
    )
    op.create_index("ix_bot_corrections_bot_id_id", "bot_corrections", ["bot_id", "id"])


def downgrade() -> None:
    for table in ("bot_corrections", "bot_turns", "bot_sessions", "bot_versions", "bots"):
        op.drop_table(table)


def _of_bot(table: str) -> sa.ForeignKey:
    return sa.ForeignKey("bots.id", ondelete="CASCADE", name=f"fk_{table}_bot_id_bots")
