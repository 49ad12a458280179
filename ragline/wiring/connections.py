"""What every role needs: PostgreSQL, and patience for what is away."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ragline.settings import Settings
from schemas.errors import Retry
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)

OnFail = Callable[[BaseException], None]
ResultT = TypeVar("ResultT")


async def until_there(
    what: Callable[[], Awaitable[ResultT]], *, interval_s: float = 0.5, within_s: float = math.inf
) -> ResultT:
    """Tries again while something is away: processes may start in any order. Raises: Retry after `within_s`."""
    until = time.monotonic() + within_s
    while True:
        try:
            return await what()
        except Retry as retry:
            if time.monotonic() >= until:
                raise
            logger.warning("waiting: %s", retry)
            await asyncio.sleep(interval_s)


def build_database(settings: Settings, *, max_connections: int = 10) -> Database:
    """A pool that opens when it is needed."""
    return Database(settings.postgres_dsn.get_secret_value(), max_connections=max_connections)
