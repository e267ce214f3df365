"""A data set keeps the account of its import."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("account", sa.JSON))


def downgrade() -> None:
    op.drop_column("datasets", "account")
