"""dead letter actions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Up."""
    op.create_table(
        "dead_letter_actions",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("record_id", sa.String(), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", "action"),
    )


def downgrade() -> None:
    """Down."""
    op.drop_table("dead_letter_actions")
