"""Removals from the stores: what is broken of one tenant holds up nobody else's."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID

from schemas.errors import Busy, Stop

logger = logging.getLogger(__name__)

AT_ONCE = 16
AGAIN_AFTER_S = 60.0

Key = TypeVar("Key")
Find: TypeAlias = Callable[[Collection[UUID], Collection[Key]], Awaitable[tuple[UUID, Sequence[Key]] | None]]
"""Some of what a tenant has to remove, oldest first: of no tenant of the first, and nothing of the second."""
Remove: TypeAlias = Callable[[Sequence[Key]], Awaitable[int]]
"""Removes all of it in one transaction; of how many that is true now. Raises: StoreFailed; Busy; Retry."""


class StoreFailed(Exception):  # noqa: N818 - reads as the fact it is
    """The blob store or a vector table could not remove; nothing is known of any other's."""


@contextmanager
def of_store() -> Iterator[None]:
    """Whatever goes wrong in the block is a store's failure, not PostgreSQL's."""
    try:
        yield
    except Stop:
        raise
    except Exception as error:
        raise StoreFailed(f"{type(error).__name__}: {error}") from error


class PutOff(Generic[Key]):
    """What could not be removed by this process, for a minute."""

    def __init__(self, *, for_s: float = AGAIN_AFTER_S) -> None:
        self._for_s = for_s
        self._until: dict[Key, float] = {}

    def add(self, key: Key) -> None:
        """Not before `for_s` are over."""
        self._until[key] = time.monotonic() + self._for_s

    def keys(self) -> list[Key]:
        """What is put off now."""
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return list(self._until)


async def remove_each(find: Find[Key], remove: Remove[Key], put_off: PutOff[Key]) -> int:
    """Removes all that is found and not put off; how much. Raises: Retry if PostgreSQL is away.

    A tenant with something that could not be removed, or that another process works on, or whose table is optimized,
    has to wait for the next round with the rest of it.
    """
    n_removed = 0
    waiting: set[UUID] = set()
    while (found := await find(waiting, put_off.keys())) is not None:
        tenant_id, keys = found
        n = await _remove(keys, remove, put_off)
        n_removed += n
        if n < len(keys):
            waiting.add(tenant_id)
    return n_removed


async def _remove(keys: Sequence[Key], remove: Remove[Key], put_off: PutOff[Key]) -> int:
    """All at once; if that fails one by one, up to the first that cannot be removed."""
    try:
        return await remove(keys)
    except Busy as busy:
        logger.info("what is left of %s has to wait: %s", keys[0], busy)
        return 0
    except StoreFailed as failed:
        if len(keys) == 1:
            logger.warning("what is left of %s cannot be removed yet: %s", keys[0], failed)
            put_off.add(keys[0])
            return 0
    n_removed = 0
    for key in keys:
        n = await _remove([key], remove, put_off)
        n_removed += n
        if n == 0:
            break
    return n_removed
