"""The newest raw records of one partition, bounded in bytes; nothing in it is decoded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from storage.log.tail import ConsumerRecord

ENTRY_OVERHEAD_BYTES = 320
"""What an entry takes in memory beside its body: the tuple, its numbers, its key (measured: 260)."""

Entry: TypeAlias = tuple[int, int, bytes, str, bytes]
"""Offset, newest timestamp so far (ms), key, type, body: a plain tuple of plain values, which the collector lets go."""


class Ring:
    """Holds every record at or after `floor`; none before it.

    `floor_s` (Unix time): what was written after it, by the records' own timestamps, is not below the floor.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._newest_ms = 0
        self.floor = 0
        self.floor_s = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, *, offset: int, since_s: float) -> None:
        """The reader starts at `offset`, where the records since `since_s` begin."""
        self.floor, self.floor_s = offset, since_s

    def append(self, record: ConsumerRecord, kind: str) -> None:
        """Takes the next record, which is of that type; the oldest go when there are too many bytes."""
        self._newest_ms = max(self._newest_ms, record.timestamp)
        value = record.value or b""
        self._entries.append((record.offset, self._newest_ms, record.key or b"", kind, value))
        self._size += ENTRY_OVERHEAD_BYTES + len(value)
        while self._size > self._max_bytes:
            offset, newest_ms, _, _, value = self._entries.popleft()
            self._size -= ENTRY_OVERHEAD_BYTES + len(value)
            self.floor = offset + 1
            self.floor_s = max(self.floor_s, newest_ms / 1000)

    def of_key(self, key: bytes, *, offset: int | None, since_s: float) -> list[tuple[str, bytes]]:
        """Types and bodies of `key`, in order: from `offset` on, or all that were written after `since_s`."""
        found = []
        for at, newest_ms, one_key, kind, value in reversed(self._entries):
            if (newest_ms < since_s * 1000) if offset is None else (at < offset):
                break
            if one_key == key:
                found.append((kind, value))
        found.reverse()
        return found
