"""What was requested a moment ago begins empty; what is told again later may have a past, whatever this clock says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

import pytest

from producers.edge import requested as requested_module
from producers.edge.event_tail import EventTail
from producers.edge.requested import FRESH_S, RequestedCompletions
from schemas.commands import Generation
from schemas.envelope import Envelope
from schemas.events import CompletionRequested
from schemas.ids import new_id
from schemas.topics import CHAT_EVENTS
from schemas.upcasters import Upcaster

CREATED = datetime(2001, 1, 1, tzinfo=UTC)
Hear = Callable[[dict[str, bytes], bytes, float], None]


def listening() -> tuple[RequestedCompletions, dict[str, Hear]]:
    """What remembers requests, and how it hears of them, by type."""
    heard: dict[str, Hear] = {}
    tail = EventTail("127.0.0.1:1", client_id="test")
    tail.on_type = heard.__setitem__  # type: ignore[method-assign, assignment]
    return RequestedCompletions(tail), heard


def request() -> CompletionRequested:
    """Somebody asks."""
    return CompletionRequested(
        session_id=new_id(),
        session_version=1,
        completion_id=new_id(),
        message_id=new_id(),
        parent_id=new_id(),
        generation=Generation(),
        created_at=CREATED,
    )


@pytest.mark.parametrize(("told_after_s", "is_fresh"), [(0.0, True), (FRESH_S - 1, True), (FRESH_S + 1, False)])
def test_the_brokers_time_and_the_databases_say_how_fresh_it_is(told_after_s: float, *, is_fresh: bool) -> None:
    requested, heard = listening()
    body = request()
    event = Envelope(body=body, tenant_id=new_id(), user_id=new_id(), source="test")
    heard[body.ce_type](dict(event.headers()), body.encode(), CREATED.timestamp() + told_after_s)
    assert (requested.get(body.completion_id) is not None) == is_fresh


class OlderRequest(CompletionRequested):
    """As it was said when a completion had another name."""

    ce_type: ClassVar[str] = "ragline.chat.completion_requested.v0"
    run_id: UUID


def test_a_request_of_an_older_version_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(old: OlderRequest) -> CompletionRequested:
        return CompletionRequested(**old.model_dump(exclude={"run_id"}) | {"completion_id": old.run_id})

    monkeypatch.setattr(
        requested_module,
        "CHAT_EVENTS",
        replace(CHAT_EVENTS, upcasters=(Upcaster(OlderRequest, CompletionRequested, change),)),
    )
    requested, heard = listening()
    body = OlderRequest(**dict(request()), run_id=new_id())
    event = Envelope(body=body, tenant_id=new_id(), user_id=new_id(), source="test")
    heard[body.ce_type](dict(event.headers()), body.encode(), CREATED.timestamp())
    assert requested.get(body.run_id) is not None
    heard[body.ce_type](dict(event.headers()), b"{}", CREATED.timestamp())
