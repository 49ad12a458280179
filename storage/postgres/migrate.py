"""Migrations: `alembic` up and down, by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import storage.postgres.tables  # noqa: F401 - fills the metadata
from schemas.errors import Retry, Stop
from schemas.ids import advisory_key

_INSUFFICIENT_PRIVILEGE = "42501"
_REMEDY = (
    "It must own the database and either be allowed to create roles (ALTER ROLE … CREATEROLE) or be given the role of"
    " tenants (CREATE ROLE ragline_tenant; GRANT ragline_tenant TO … WITH SET TRUE, ADMIN TRUE)"
)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


async def _run(dsn: str, work: Callable[[Connection], list[str]]) -> list[str]:
    engine = create_async_engine(sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": advisory_key("migrate")})
            return await connection.run_sync(work)
    except (OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise Stop(f"PostgreSQL does not let this user migrate: {error.orig}. {_REMEDY}") from error
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
        raise Retry(f"PostgreSQL: {error}") from error
    finally:
        await engine.dispose()


def sqlalchemy_url(dsn: str) -> str:
    """The DSN with SQLAlchemy's driver name."""
    return "postgresql+asyncpg://" + dsn.partition("://")[2]


async def upgrade(dsn: str, revision: str = "head") -> None:
    """Brings the schema to `revision`; a schema that is there already is left alone. Raises: Retry, Stop."""

    def work(connection: Connection) -> list[str]:
        command.upgrade(_config(connection), revision)
        return []

    await _run(dsn, work)


async def downgrade(dsn: str, revision: str) -> None:
    """Takes the schema back to `revision`; `base` is the empty database. Raises: Retry."""

    def work(connection: Connection) -> list[str]:
        command.downgrade(_config(connection), revision)
        return []

    await _run(dsn, work)


async def differences(dsn: str) -> list[str]:
    """Where the database differs from `tables.py`, a line each. Raises: Retry."""

    def work(connection: Connection) -> list[str]:
        found = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
        return [repr(difference) for difference in found]

    return await _run(dsn, work)


async def current_revision(dsn: str) -> str | None:
    """The schema's revision, None for an empty database. Raises: Retry."""

    def work(connection: Connection) -> list[str]:
        revision = MigrationContext.configure(connection).get_current_revision()
        return [revision] if revision else []

    return next(iter(await _run(dsn, work)), None)


def head_revision() -> str:
    """The newest revision of this program."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("no migrations are installed")
    return head


def known_revisions() -> set[str]:
    """Every revision that this program knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


async def write_revision(dsn: str, message: str, revision: str) -> None:
    """For developers: writes the migration that takes the database to what `tables.py` says."""

    def work(connection: Connection) -> list[str]:
        command.revision(_config(connection), message, autogenerate=True, rev_id=revision)
        return []

    await _run(dsn, work)
