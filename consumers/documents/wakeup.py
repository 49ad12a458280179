"""Wake-up: a group-less tail of the knowledge events, as a hint only; the sweep each second is what is relied on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from schemas.errors import Retry
from schemas.events import DocumentDeleted, DocumentUploaded, RestoreRequested
from schemas.topics import KNOWLEDGE_EVENTS
from storage.log.tail import Records, Tail

logger = logging.getLogger(__name__)

_HINTS = {
    kind.encode()
    for fact in (DocumentUploaded, RestoreRequested, DocumentDeleted)
    for kind in KNOWLEDGE_EVENTS.read_as(fact)
}
_AGAIN_AFTER_S = 5.0


class Wakeup:
    """Calls `wake` soon after a document was uploaded or deleted, for as long as Kafka can be read."""

    def __init__(self, bootstrap: str, *, client_id: str, wake: Callable[[], None]) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._wake = wake
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen."""
        self._task = asyncio.create_task(self._run(), name="documents wake-up")

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            tail = Tail(self._bootstrap, [KNOWLEDGE_EVENTS], self._on_records, client_id=self._client_id)
            try:
                await tail.start()
                await asyncio.wait([tail.task])
                logger.warning("documents: the wake-up ended: %r", tail.task.exception())
            except Retry as retry:
                logger.warning("documents: no wake-up: %s", retry)
            finally:
                await tail.stop()
            await asyncio.sleep(_AGAIN_AFTER_S)

    def _on_records(self, _: object, records: Records) -> None:
        if any(value in _HINTS for record in records for name, value in record.headers if name == "ce_type"):
            self._wake()
