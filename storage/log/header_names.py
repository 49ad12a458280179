"""A header's name that is not UTF-8 costs its record, never its reader.

Kafka takes any bytes as a header's name; aiokafka decodes them as UTF-8 and fails out of every poll, for ever, with
all records behind it. Here a fetch that cannot be read is read once more, with unreadable bytes as lone surrogates
(PEP 383): the record arrives, `schemas.envelope.decode` refuses it, and it goes the way of every malformed record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class _LenientBuffer(bytearray):
    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _LenientBuffer(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "surrogateescape" if errors == "strict" else errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def __iter__(self) -> _LenientBatch:
        super().__iter__()
        self._buffer = _LenientBuffer(self._buffer)
        return self


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.magic < 2 else _LenientBatch(raw)


class _KeptRecords(MemoryRecords):  # type: ignore[misc]
    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        raw: bytes = self._records.raw
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            self._records = _LenientRecords(raw)
            yield from super()._unpack_records()  # what was yielded already is left out by its offset


def tolerate_header_names() -> None:
    """Every consumer of this process reads so from now on."""
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords = _PartitionRecords
