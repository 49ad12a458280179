"""The suite's own eyes: each promise that a stream may break is seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ragline.client.sse import SseEvent
from tests.chaos.reading import Reading

A = ("delta", "000000.0000000003.1", {"attempt": 1, "start": 0, "end": 3, "text": "abc"})
B = ("delta", "000000.0000000005.1", {"attempt": 2, "start": 3, "end": 5, "text": "de"})
RESET = ("reset", "000002.0000000000.0", {"at": 0})
END = ("completed", "000000.0000000005.2", {"status": "complete"})
Step = tuple[str, str, dict[str, Any]]


def _read(*steps: Step) -> Reading:
    reading = Reading()
    for at_s, (name, id_, data) in enumerate(steps):
        reading.take(SseEvent(name, json.dumps(data)), id_, float(at_s))
    return reading


def test_a_whole_stream() -> None:
    reading = _read(("started", "", {}), A, B, ("usage", "", {}), END)
    assert (reading.faults, reading.text, reading.terminal) == ([], "abcde", "complete")
    assert [gap.length_s for gap in reading.gaps] == [1.0]


def test_a_restart() -> None:
    again = ("delta", "000002.0000000002.1", {"attempt": 2, "start": 0, "end": 2, "text": "xy"})
    reading = _read(A, RESET, again)
    assert (reading.faults, reading.text, reading.n_resets) == ([], "xy", 1)


@pytest.mark.parametrize(
    ("steps", "seen"),
    [
        ((A, A), "after 000000.0000000003.1"),
        ((B,), "where 0 are known"),
        (
            (A, ("delta", "000000.0000000006.1", {"attempt": 1, "start": 4, "end": 6, "text": "de"})),
            "where 3 are known",
        ),
        ((A, ("delta", "000000.0000000005.1", {"attempt": 1, "start": 3, "end": 5, "text": "d"})), "of 1 characters"),
        ((A, END, B), "after the end"),
        ((("delta", "", A[2]),), "without an id"),
        ((A, ("error", "", {"code": "internal_error"})), "error event internal_error"),
        ((("surprise", "", {}),), "unknown event"),
    ],
)
def test_a_broken_promise_is_seen(steps: tuple[Step, ...], seen: str) -> None:
    assert any(seen in fault for fault in _read(*steps).faults)


def test_a_history_tells_runs_of_deltas_in_one_line() -> None:
    reading = Reading()
    for n in range(50):
        reading.history.delta(n / 100, 1, n, n + 1)
    reading.history.delta(9.0, 1, 50, 51)
    assert [line.split("delta ")[1] for line in reading.history.text()] == [
        "0..50 of attempt 1 (50, to 0.49)",
        "50..51 of attempt 1 (1, to 9.00)",
    ]
