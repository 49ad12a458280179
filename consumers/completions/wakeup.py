"""Hints from the events: something can be claimed, something was cancelled. Losing one costs a second, no more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from schemas.envelope import decode_body
from schemas.errors import DeadLetter
from schemas.events import CancelRequested, CompletionRequested
from schemas.topics import CHAT_EVENTS
from storage.log.tail import Records, Tail, TopicPartition

logger = logging.getLogger(__name__)

_REQUESTED = {kind.encode() for kind in CHAT_EVENTS.read_as(CompletionRequested)}
_CANCELLED = {kind.encode() for kind in CHAT_EVENTS.read_as(CancelRequested)}


def wakeup_tail(
    bootstrap: str, *, client_id: str, on_requested: Callable[[], None], on_cancel: Callable[[UUID], None]
) -> Tail:
    """A group-less tail of the chat events from now on; looks at the type before it decodes anything."""

    def on_records(_: TopicPartition, records: Records) -> None:
        for record in records:
            kind = next((raw for name, raw in record.headers if name == "ce_type"), None)
            if kind in _REQUESTED:
                on_requested()
            elif kind in _CANCELLED:
                _cancel(kind, record.value, on_cancel)

    return Tail(bootstrap, [CHAT_EVENTS], on_records, client_id=client_id, max_wait_ms=100)


def _cancel(kind: bytes, value: bytes | None, on_cancel: Callable[[UUID], None]) -> None:
    try:
        body = decode_body(CHAT_EVENTS, kind.decode(), value)
    except DeadLetter as error:
        logger.warning("a CancelRequested was not understood: %s", error)
        return
    if isinstance(body, CancelRequested):
        on_cancel(body.completion_id)
