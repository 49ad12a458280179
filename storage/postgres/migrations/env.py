"""Alembic's environment: runs migrations on a connection that `migrate.py` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlmodel import AutoString, SQLModel

import storage.postgres.tables  # noqa: F401 - fills the metadata


def _plain_string(kind: str, item: Any, _: Any) -> str | Literal[False]:
    return "sa.String()" if kind == "type" and isinstance(item, AutoString) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
    compare_type=True,
    render_item=_plain_string,
)
with context.begin_transaction():
    context.run_migrations()
