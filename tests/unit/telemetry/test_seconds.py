"""Our histogram says what prometheus_client's own says of the same durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from telemetry.seconds import Seconds

BUCKETS = (0.1, 1.0, 10.0)
durations = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100) | st.sampled_from(BUCKETS)), max_size=30)


@given(durations)
def test_it_says_what_the_library_s_says(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Seconds("s", "How long.", ["which"], BUCKETS, ours)
    reference = Histogram("s", "How long.", ["which"], registry=theirs, buckets=BUCKETS)
    for which, seconds in observed:
        mine.labels(which).observe(seconds)
        reference.labels(which).observe(seconds)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_block_is_timed_whatever_its_end() -> None:
    registry = CollectorRegistry()
    seconds = Seconds("s", "How long.", [], BUCKETS, registry)
    assert b"s_count 0.0" in generate_latest(registry)
    with pytest.raises(ValueError, match="end"), seconds.labels().time():
        raise ValueError("end")
    assert b"s_count 1.0" in generate_latest(registry)


def test_labels_are_counted() -> None:
    with pytest.raises(ValueError, match="labels"):
        Seconds("s", "How long.", ["which"], BUCKETS, CollectorRegistry()).labels()
