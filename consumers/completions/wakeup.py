"""Hints from the events: something can be claimed, something was cancelled. Losing one costs a second, no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

from schemas.events import CancelRequested, CompletionRequested
from schemas.topics import CHAT_EVENTS
from storage.log.tail import Records, Tail, TopicPartition

_REQUESTED = {kind.encode() for kind in CHAT_EVENTS.read_as(CompletionRequested)}
_CANCELLED = CancelRequested.ce_type.encode()


def wakeup_tail(
    bootstrap: str, *, client_id: str, on_requested: Callable[[], None], on_cancel: Callable[[UUID], None]
) -> Tail:
    """A group-less tail of the chat events from now on; looks at the type before it decodes anything."""

    def on_records(_: TopicPartition, records: Records) -> None:
        for record in records:
            kind = next((raw for name, raw in record.headers if name == "ce_type"), None)
            if kind in _REQUESTED:
                on_requested()
            elif kind == _CANCELLED and record.value:
                on_cancel(UUID(json.loads(record.value)["completion_id"]))

    return Tail(bootstrap, [CHAT_EVENTS], on_records, client_id=client_id, max_wait_ms=100)
