"""retention indexes: what is older than 31 days is found without reading the table, at no cost to an insert"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Up."""
    op.create_index("inbox_age", "inbox", ["at"], postgresql_using="brin")
    op.create_index("outbox_age", "outbox", ["created_at"], postgresql_using="brin")


def downgrade() -> None:
    """Down."""
    op.drop_index("outbox_age", "outbox")
    op.drop_index("inbox_age", "inbox")
