"""what is not published stands in a thin table: a mark is a delete there, not a new version of a wide, indexed row"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Up."""
    op.drop_index("outbox_unpublished", "outbox")
    op.create_table(
        "outbox_unpublished",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO outbox_unpublished SELECT id, created_at FROM outbox WHERE published_at IS NULL")
    op.alter_column("outbox", "published_at", new_column_name="issued_again_at")


def downgrade() -> None:
    """Down."""
    op.alter_column("outbox", "issued_again_at", new_column_name="published_at")
    op.execute("UPDATE outbox SET published_at = NULL WHERE id IN (SELECT id FROM outbox_unpublished)")
    op.execute("UPDATE outbox SET published_at = now() WHERE id NOT IN (SELECT id FROM outbox_unpublished)")
    op.drop_table("outbox_unpublished")
    op.create_index("outbox_unpublished", "outbox", ["created_at"], postgresql_where=sa.text("published_at IS NULL"))
