"""row-level security: a tenant's transaction runs as `ragline_tenant`, which reads this tenant's rows and nothing else

The role belongs to the server, not to this database; it cannot log in. Its policies hold for superusers too, because
the transaction takes the role. The owner of the tables, as whom consumers and the relay serve all tenants, has none.

`message_words` has no policy: behind one its index could not be used (decision 0012). What a search finds there are
ids; the messages and sessions that it shows stand behind the wall.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = ("sessions", "messages", "completions", "documents", "document_versions", "passages", "outbox")


def upgrade() -> None:
    """Up. Fails where the role is missing and the user may not create roles."""
    op.execute(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ragline_tenant')"
        " THEN CREATE ROLE ragline_tenant NOLOGIN; END IF; END $$"
    )
    op.execute("GRANT ragline_tenant TO CURRENT_USER WITH SET TRUE, INHERIT FALSE")
    op.execute("GRANT USAGE ON SCHEMA public TO ragline_tenant")
    for table in _TABLES:
        op.execute(f"GRANT SELECT ON {table} TO ragline_tenant")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} FOR SELECT TO ragline_tenant"
            " USING (tenant_id = current_setting('ragline.tenant_id')::uuid)"
        )
    op.execute("GRANT SELECT ON message_words TO ragline_tenant")


def downgrade() -> None:
    """Down; the role stays, other databases may use it."""
    op.execute("REVOKE SELECT ON message_words FROM ragline_tenant")
    for table in _TABLES:
        op.execute(f"DROP POLICY tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"REVOKE SELECT ON {table} FROM ragline_tenant")  # noqa: S608 - no input in it
