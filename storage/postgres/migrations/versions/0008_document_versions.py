"""document versions: requests are numbered, so that the last one wins; what is superseded is found for its vectors"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Up."""
    op.add_column("documents", sa.Column("latest_request", sa.Integer(), server_default="1", nullable=False))
    op.add_column("document_versions", sa.Column("request", sa.Integer(), server_default="1", nullable=False))
    op.add_column("document_versions", sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "document_versions_superseded",
        "document_versions",
        ["superseded_at"],
        postgresql_where=sa.text("superseded_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Down."""
    op.drop_index("document_versions_superseded", "document_versions")
    op.drop_column("document_versions", "superseded_at")
    op.drop_column("document_versions", "request")
    op.drop_column("documents", "latest_request")
