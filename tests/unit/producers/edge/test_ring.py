"""A ring is bounded in bytes and knows from where on it is whole."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from producers.edge.ring import RECORD_OVERHEAD_BYTES, Ring


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
        record: Any = Record(100 + i, b"a" if i % 2 else b"b", b"x" * 100, 10_000 + i * 1000)
        ring.append(record)
    return ring


def test_it_holds_everything_from_its_beginning() -> None:
    ring = filled(10, 1_000_000)
    assert (len(ring), ring.floor, ring.floor_s) == (10, 100, 5.0)
    assert [r.offset for r in ring.of_key(b"a", None)] == [101, 103, 105, 107, 109]
    assert [r.offset for r in ring.of_key(b"a", 104)] == [105, 107, 109]


def test_the_oldest_go_when_there_are_too_many_bytes() -> None:
    ring = filled(10, 3 * (RECORD_OVERHEAD_BYTES + 100))
    assert (len(ring), ring.floor, ring.floor_s) == (3, 107, 16.0)


def test_a_record_larger_than_the_ring_leaves_nothing() -> None:
    ring = filled(1, 10)
    assert (len(ring), ring.floor) == (0, 101)


def test_the_overhead_covers_a_real_record() -> None:
    """Measured on the objects that aiokafka makes of one of our chunk records."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        *((f"ce_name_{i:02}", bytes(36)) for i in range(10)),
        ("traceparent", bytes(55)),
    ]
    strings = sum(sys.getsizeof(name) + sys.getsizeof(raw) for name, raw in headers)
    tuples = sum(sys.getsizeof(header) for header in headers)
    assert strings + tuples + sys.getsizeof(headers) < 2 * RECORD_OVERHEAD_BYTES
