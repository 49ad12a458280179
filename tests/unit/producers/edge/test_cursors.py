"""Cursors lead back to where they were made, and garbage to a clear 400."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.edge.cursors import after_position, after_time, clamped, encode_cursor
from schemas.errors import Reject

OURS = UUID(int=3)


@given(at=st.datetimes(timezones=st.just(UTC)), id_=st.uuids())
def test_a_cursor_of_times_leads_back(at: datetime, id_: UUID) -> None:
    assert after_time("sessions", OURS, encode_cursor("sessions", OURS, at.isoformat(), id_)) == (at, id_)


@given(position=st.integers(0, 2**31 - 2))
def test_a_cursor_of_positions_leads_back(position: int) -> None:
    assert after_position("messages", OURS, encode_cursor("messages", OURS, position)) == position


@given(text=st.text(max_size=40))
def test_garbage_is_refused(text: str) -> None:
    for read in (after_time, after_position):
        with pytest.raises(Reject) as caught:
            read("sessions", OURS, text)
        assert (caught.value.status, caught.value.code, caught.value.field) == (400, "invalid_cursor", "cursor")


@pytest.mark.parametrize(
    "values",
    [(), (1,), ("x", "y"), ("2024-01-01T00:00:00+00:00",), ("2024-01-01", str(UUID(int=1))), (1, 2), (None, None)],
)
def test_a_cursor_of_another_shape_is_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(Reject):
        after_time("sessions", OURS, encode_cursor("sessions", OURS, *values))


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_no_row_can_have_is_refused(text: str) -> None:
    with pytest.raises(Reject) as caught:
        after_time("sessions", OURS, encode_cursor("sessions", OURS, text, UUID(int=1)))
    assert caught.value.code == "invalid_cursor"


@pytest.mark.parametrize("value", [-1, 2**31, "1", None, 1.5])
def test_positions_that_no_list_has_are_refused(value: object) -> None:
    with pytest.raises(Reject):
        after_position("messages", OURS, encode_cursor("messages", OURS, value))


@pytest.mark.parametrize(("kind", "scope"), [("documents", OURS), ("sessions", UUID(int=4)), ("sessions", None)])
def test_a_cursor_of_another_list_is_refused(kind: str, scope: UUID | None) -> None:
    cursor = encode_cursor("sessions", OURS, datetime.now(UTC).isoformat(), UUID(int=1))
    with pytest.raises(Reject) as caught:
        after_time(kind, scope, cursor)
    assert caught.value.code == "invalid_cursor"


@pytest.mark.parametrize(("limit", "expected"), [(-5, 1), (0, 1), (7, 7), (200, 200), (10**30, 200)])
def test_limits_are_clamped(limit: int, expected: int) -> None:
    assert clamped(limit) == expected
