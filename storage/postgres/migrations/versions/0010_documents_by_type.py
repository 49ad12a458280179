"""documents by type: the instructions of a tenant are looked up before each of its answers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Up."""
    op.create_index(
        "documents_by_type", "documents", ["tenant_id", "type"], postgresql_where=sa.text("deleted_at IS NULL")
    )


def downgrade() -> None:
    """Down."""
    op.drop_index("documents_by_type", "documents")
