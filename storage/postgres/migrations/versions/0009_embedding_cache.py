"""embedding cache: a text that a provider was paid for is not embedded twice

Vectors are float32 and do not compress: they stand apart uncompressed where they are long.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Up."""
    op.create_table(
        "embedding_cache",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("used_on", sa.Date(), server_default=sa.text("CURRENT_DATE"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "model", "content_hash"),
    )
    op.create_index("embedding_cache_used", "embedding_cache", ["used_on"])
    op.execute("ALTER TABLE embedding_cache ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.execute("GRANT SELECT ON embedding_cache TO ragline_tenant")
    op.execute("ALTER TABLE embedding_cache ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant ON embedding_cache FOR SELECT TO ragline_tenant"
        " USING (tenant_id = current_setting('ragline.tenant_id')::uuid)"
    )


def downgrade() -> None:
    """Down."""
    op.drop_table("embedding_cache")
