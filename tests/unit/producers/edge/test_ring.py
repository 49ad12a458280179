"""A ring is bounded in bytes and knows from where on it is whole."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass
from typing import Any

from producers.edge.ring import ENTRY_OVERHEAD_BYTES, Ring


@dataclass
class Record:
    """As much of a ConsumerRecord as a ring looks at."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int


def filled(n_records: int, max_bytes: int) -> Ring:
    ring = Ring(max_bytes)
    ring.begin(offset=100, since_s=5.0)
    for i in range(n_records):
        record: Any = Record(100 + i, b"a" if i % 2 else b"b", b"%d" % (100 + i) + b"x" * 97, 10_000 + i * 1000)
        ring.append(record, "chunk")
    return ring


def offsets(ring: Ring, *, offset: int | None = None, since_s: float = 0.0) -> list[int]:
    return [int(value[:3]) for _, value in ring.of_key(b"a", offset=offset, since_s=since_s)]


def test_it_holds_everything_from_its_beginning() -> None:
    ring = filled(10, 1_000_000)
    assert (len(ring), ring.floor, ring.floor_s) == (10, 100, 5.0)
    assert offsets(ring) == [101, 103, 105, 107, 109]
    assert offsets(ring, offset=104, since_s=1e9) == [105, 107, 109]
    assert offsets(ring, since_s=15.0) == [105, 107, 109]


def test_a_clock_that_goes_back_hides_nothing() -> None:
    ring = Ring(1_000_000)
    for offset, second in ((100, 20), (101, 5), (102, 21)):
        record: Any = Record(offset, b"a", b"%d" % offset, second * 1000)
        ring.append(record, "chunk")
    assert offsets(ring, since_s=20.0) == [100, 101, 102]


def test_the_oldest_go_when_there_are_too_many_bytes() -> None:
    ring = filled(10, 3 * (ENTRY_OVERHEAD_BYTES + 100))
    assert (len(ring), ring.floor, ring.floor_s) == (3, 107, 16.0)


def test_a_record_larger_than_the_ring_leaves_nothing() -> None:
    ring = filled(1, 10)
    assert (len(ring), ring.floor) == (0, 101)


def test_the_overhead_covers_a_real_entry() -> None:
    n, ring = 5_000, Ring(100_000_000)
    tracemalloc.start()
    try:
        for i in range(n):
            key, value, timestamp = (str(i).zfill(36)).encode(), b"%0170d" % i, 1_763_700_000_000 + i
            record: Any = Record(2**40 + i, key, value, timestamp)
            ring.append(record, "chunk")
            del record, key, value
        assert tracemalloc.get_traced_memory()[0] / n - 170 < ENTRY_OVERHEAD_BYTES
    finally:
        tracemalloc.stop()


def test_the_collector_lets_entries_go() -> None:
    """A ring of many small objects that the collector visits is a pause of 0.1 s for every stream of the edge."""
    ring = filled(1000, 1_000_000)
    gc.collect()
    assert not [entry for entry in ring._entries if gc.is_tracked(entry)]
