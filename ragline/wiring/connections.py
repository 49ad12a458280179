"""What every role needs: PostgreSQL, and patience for what is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ragline.settings import Settings
from schemas.errors import Retry
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

OnFail = Callable[[BaseException], None]
ResultT = TypeVar("ResultT")


async def until_there(what: Callable[[], Awaitable[ResultT]], *, interval_s: float = 0.5) -> ResultT:
    """Tries again for as long as something is away: processes may start in any order."""
    while True:
        try:
            return await what()
        except Retry as retry:
            logger.warning("waiting: %s", retry)
            await asyncio.sleep(interval_s)


def build_database(settings: Settings, *, max_connections: int = 10) -> Database:
    """A pool that opens when it is needed."""
    return Database(settings.postgres_dsn.get_secret_value(), max_connections=max_connections)
