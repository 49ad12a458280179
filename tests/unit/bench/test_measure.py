"""The benchmark's own arithmetic: rounds alternate, percentiles are nearest ranks, verdicts follow the limits."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from bench.measure import Row, Sides, alternate, at_least, at_most, percentile
from bench.table import markdown, verdict


async def test_rounds_alternate_and_turn_round() -> None:
    heard: list[str] = []

    def side(name: str) -> Callable[[], Awaitable[float]]:
        async def measured() -> float:
            heard.append(name)
            return float(len(heard))

        return measured

    sides = await alternate(3, {"a": side("a"), "b": side("b")})
    assert heard == ["a", "b", "b", "a", "a", "b"]
    assert sides.samples == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}
    assert sides["a"] == 4.0
    assert sides.spread("b") == "2–6"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_verdicts_follow_the_limits() -> None:
    assert at_most("x", "m", ours=1.3, baseline=1.0, factor=1.3, unit="ms").ok
    assert not at_most("x", "m", ours=1.31, baseline=1.0, factor=1.3, unit="ms").ok
    assert at_least("x", "m", ours=0.5, baseline=1.0, factor=0.5, unit="/s").ok
    assert not at_least("x", "m", ours=0.49, baseline=1.0, factor=0.5, unit="/s").ok


def test_the_page_keeps_what_people_wrote() -> None:
    row = Row("accept", "p50", "≤ 1.3 ×", "1 ms", "2 ms", "2", ok=False)
    first = markdown([row], "# Results\n\nWhy it falls short.\n")
    again = markdown([Row("relay", "p99", "", "–", "3 ms", "–", ok=None)], first + "\nAfter.\n")
    assert first.startswith("# Results\n\nWhy it falls short.\n")
    assert "| accept | p50 | ≤ 1.3 × | 1 ms | 2 ms | 2 | short |" in first
    assert "accept" not in again
    assert "relay" in again
    assert again.endswith("\nAfter.\n")
    assert [verdict(Row("x", "m", "", "", "", "", ok)) for ok in (True, False, None)] == ["ok", "short", ""]


def test_sides_tell_the_median() -> None:
    assert Sides({"ours": [3.0, 1.0, 2.0]})["ours"] == 2.0
