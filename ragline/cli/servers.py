"""Where the commands for operators find Kafka and PostgreSQL: the settings, else the `ragline dev` of the home."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

from ragline.client.errors import UnreachableError
from ragline.client.target import home_stack
from ragline.settings import load_settings
from schemas.errors import Retry

ResultT = TypeVar("ResultT")


def kafka_bootstrap() -> str:
    """The broker's address. Raises: SettingsError."""
    settings = load_settings()
    stack = None if "kafka_bootstrap" in settings.model_fields_set else home_stack(settings.home)
    return stack.kafka_bootstrap if stack is not None else settings.kafka_bootstrap


def postgres_dsn() -> str:
    """The database's address. Raises: SettingsError."""
    settings = load_settings()
    stack = None if "postgres_dsn" in settings.model_fields_set else home_stack(settings.home)
    return stack.postgres_dsn if stack is not None else settings.postgres_dsn.get_secret_value()


def quiet_clients() -> None:
    """What is wrong is told in one line of our own, not in the libraries'."""
    for name in ("aiokafka", "alembic", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def reachable(work: Awaitable[ResultT], setting: str) -> ResultT:
    """What the work gives. Raises: UnreachableError where the server is away."""
    try:
        return await work
    except Retry as away:
        variable = f"RAGLINE_{setting.upper()}"
        raise UnreachableError(f"{away}; start `make dev` in this folder, or set {variable}") from None
