"""Folds `identity.state.v1` into the key ring: read from its beginning to its end before the edge is ready."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from producers.edge.auth import KeyRing
from schemas.envelope import decode
from schemas.errors import DeadLetter, Retry
from schemas.events import ApiKeyState
from schemas.topics import IDENTITY_STATE
from storage.log.tail import Records, Tail, TopicPartition

logger = logging.getLogger(__name__)


class IdentityTail:
    """Keeps a key ring as new as the log."""

    def __init__(self, bootstrap: str, ring: KeyRing, *, client_id: str) -> None:
        self._ring = ring
        self.is_at_end = False
        self.tail = Tail(
            bootstrap, [IDENTITY_STATE], self._on_records, client_id=client_id, lookback_s=None, max_wait_ms=500
        )

    async def start(self, *, timeout_s: float) -> None:
        """Holds after: all that stood in the topic at the start is known. Raises: Retry."""
        await self.tail.start()
        ends = await self.tail.end_offsets()
        try:
            async with asyncio.timeout(timeout_s):
                await self.tail.until(ends)
        except TimeoutError as error:
            await self.tail.stop()
            raise Retry(f"Kafka: {IDENTITY_STATE.name} could not be read to its end within {timeout_s} s") from error
        self.is_at_end = True

    def _on_records(self, partition: TopicPartition, records: Records) -> None:
        for record in records:
            try:
                self._fold(record.key or b"", record.headers, record.value)
            except (DeadLetter, ValueError) as error:
                logger.warning("%s/%s: not understood: %s", partition.topic, record.offset, error)

    def _fold(self, key: bytes, headers: list[tuple[str, bytes]], value: bytes | None) -> None:
        kind, _, id_ = key.decode("ascii").partition(":")
        if kind != "key":
            return
        if value is None:
            self._ring.remove(UUID(id_))
            return
        body = decode(IDENTITY_STATE, headers, value).body
        if isinstance(body, ApiKeyState):
            self._ring.set(body)
