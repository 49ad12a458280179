"""fair queues: what waits is found by its tenant, and a command that was refused for now may be sent again"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_OPEN = sa.text("status IN ('queued', 'parsing', 'embedding', 'indexing')")


def upgrade() -> None:
    """Up."""
    op.create_index(
        "completions_waiting",
        "completions",
        ["tenant_id", "created_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index("document_versions_open", "document_versions")
    op.create_index("document_versions_open", "document_versions", ["tenant_id", "created_at"], postgresql_where=_OPEN)
    op.add_column("inbox", sa.Column("refused_time", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Down."""
    op.drop_column("inbox", "refused_time")
    op.drop_index("document_versions_open", "document_versions")
    op.create_index("document_versions_open", "document_versions", ["created_at"], postgresql_where=_OPEN)
    op.drop_index("completions_waiting", "completions")
