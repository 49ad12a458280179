"""The newest raw records of one partition, bounded in bytes; nothing in it is decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.log.tail import ConsumerRecord

RECORD_OVERHEAD_BYTES = 1_600
"""What a record takes in memory beside key and value: the object, its headers and their strings (measured)."""


class Ring:
    """Holds every record at or after `floor`; none before it.

    `floor_s` (Unix time): what was written after it, by the records' own timestamps, is not below the floor.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: deque[ConsumerRecord] = deque()
        self._size = 0
        self.floor = 0
        self.floor_s = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def begin(self, *, offset: int, since_s: float) -> None:
        """The reader starts at `offset`, where the records since `since_s` begin."""
        self.floor, self.floor_s = offset, since_s

    def append(self, record: ConsumerRecord) -> None:
        """Takes the next record; the oldest go when there are too many bytes."""
        self._records.append(record)
        self._size += _size(record)
        while self._size > self._max_bytes and self._records:
            oldest = self._records.popleft()
            self._size -= _size(oldest)
            self.floor = oldest.offset + 1
            self.floor_s = max(self.floor_s, oldest.timestamp / 1000)

    def of_key(self, key: bytes, start: int | None) -> Iterator[ConsumerRecord]:
        """Records of `key` from offset `start` on, or all."""
        return (r for r in self._records if r.key == key and (start is None or r.offset >= start))


def _size(record: ConsumerRecord) -> int:
    return RECORD_OVERHEAD_BYTES + len(record.value or b"")
