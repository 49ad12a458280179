"""What was requested a moment ago begins empty; what is told again later may have a past, whatever this clock says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from producers.edge.event_tail import EventTail
from producers.edge.requested import FRESH_S, RequestedCompletions
from schemas.commands import Generation
from schemas.envelope import Envelope
from schemas.events import CompletionRequested
from schemas.ids import new_id

CREATED = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("told_after_s", "is_fresh"), [(0.0, True), (FRESH_S - 1, True), (FRESH_S + 1, False)])
def test_the_brokers_time_and_the_databases_say_how_fresh_it_is(told_after_s: float, *, is_fresh: bool) -> None:
    heard: dict[str, Callable[[dict[str, bytes], bytes, float], None]] = {}
    tail = EventTail("127.0.0.1:1", client_id="test")
    tail.on_type = heard.__setitem__  # type: ignore[method-assign, assignment]
    requested = RequestedCompletions(tail)
    body = CompletionRequested(
        session_id=new_id(),
        session_version=1,
        completion_id=new_id(),
        message_id=new_id(),
        parent_id=new_id(),
        generation=Generation(),
        created_at=CREATED,
    )
    event = Envelope(body=body, tenant_id=new_id(), user_id=new_id(), source="test")
    heard[body.ce_type](dict(event.headers()), body.encode(), CREATED.timestamp() + told_after_s)
    assert (requested.get(body.completion_id) is not None) == is_fresh
