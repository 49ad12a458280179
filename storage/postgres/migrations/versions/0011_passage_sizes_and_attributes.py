"""the size for which a version's passages were cut; documents by their attributes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Up."""
    op.add_column("document_versions", sa.Column("target_tokens", sa.Integer(), nullable=True))
    op.add_column("document_versions", sa.Column("max_tokens", sa.Integer(), nullable=True))
    op.create_table(
        "document_attributes",
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("document_id", "name"),
    )
    op.create_index(
        "document_attributes_by_value", "document_attributes", ["tenant_id", "name", "value", "document_id"]
    )
    op.execute("GRANT SELECT ON document_attributes TO ragline_tenant")
    op.execute("ALTER TABLE document_attributes ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant ON document_attributes FOR SELECT TO ragline_tenant"
        " USING (tenant_id = current_setting('ragline.tenant_id')::uuid)"
    )


def downgrade() -> None:
    """Down."""
    op.drop_table("document_attributes")
    op.drop_column("document_versions", "max_tokens")
    op.drop_column("document_versions", "target_tokens")
