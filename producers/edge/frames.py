"""The events of a completion's stream as server-sent events (design §8); ids are `<epoch>.<position>.<kind>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import orjson

from schemas.chunks import CompletionChunk, StreamEnded
from schemas.errors import Reject
from schemas.events import Citation, ErrorInfo, TerminalStatus, TokenUsage

RESET, DELTA, TERMINAL = 0, 1, 2
_ID = re.compile(r"(\d{6})\.(\d{10})\.([0-2])", re.ASCII)
_EVENT_NAMES: dict[TerminalStatus, str] = {"complete": "completed", "failed": "failed", "cancelled": "cancelled"}


class Position(NamedTuple):
    """How far a stream was read: `end` code points of `epoch`. Positions compare as the stream goes on."""

    epoch: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One delta: code points `[start, end)` of the current epoch, as the bytes that every reader gets."""

    attempt: int
    start: int
    end: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """How a completion ended, from StreamEnded or from its row; both say the same."""

    completion_id: UUID
    message_id: UUID
    epoch: int
    end: int
    status: TerminalStatus
    model: str | None
    finish_reason: str | None
    citations: tuple[Citation, ...]
    usage: TokenUsage | None
    error: ErrorInfo | None

    @classmethod
    def of(cls, ended: StreamEnded) -> Ending:
        """As the log tells it."""
        return cls(
            ended.completion_id,
            ended.message_id,
            ended.epoch,
            ended.end,
            ended.status,
            ended.model,
            ended.finish_reason,
            ended.citations,
            ended.usage,
            ended.error,
        )


def event(name: str, data: object, *, id_: str | None = None) -> bytes:
    """One server-sent event; `data` becomes one line of JSON."""
    head = f"id: {id_}\nevent: {name}\ndata: " if id_ is not None else f"event: {name}\ndata: "
    return head.encode() + orjson.dumps(data) + b"\n\n"


def event_id(epoch: int, position: int, kind: int) -> str:
    """Sortable as text, unique within a stream."""
    return f"{epoch:06d}.{position:010d}.{kind}"


def parse_last_event_id(raw: bytes | None) -> Position | None:
    """Where a reader is; None for one that begins. Raises: Reject 400 for what is no id of such a stream."""
    if not raw:
        return None
    match = _ID.fullmatch(raw.decode("latin-1"))
    if match is None or (int(match[3]) == RESET and int(match[2]) != 0):
        raise invalid_last_event_id()
    return Position(int(match[1]), int(match[2]))


def invalid_last_event_id() -> Reject:
    """The id is no id of this stream."""
    return Reject("invalid_last_event_id", 400, "Last-Event-ID is not an id of this stream", field="Last-Event-ID")


def started(completion_id: UUID, message_id: UUID, status: str, **more: str) -> bytes:
    """The first event of every connection."""
    return event("started", {"id": str(completion_id), "message_id": str(message_id), "status": status, **more})


def delta(attempt: int, epoch: int, start: int, text: str) -> Frame:
    """Text that begins at `start`."""
    end = start + len(text)
    data = {"attempt": attempt, "start": start, "end": end, "text": text}
    return Frame(attempt, start, end, event("delta", data, id_=event_id(epoch, end, DELTA)))


def delta_of(chunk: CompletionChunk) -> Frame:
    """The frame of a chunk that counts."""
    data = {"attempt": chunk.attempt, "start": chunk.start, "end": chunk.end, "text": chunk.text}
    id_ = event_id(chunk.epoch, chunk.end, DELTA)
    return Frame(chunk.attempt, chunk.start, chunk.end, event("delta", data, id_=id_))


def cut(frame: Frame, epoch: int, position: int) -> bytes:
    """The part of a delta from `position` on."""
    data = orjson.loads(frame.data[frame.data.index(b"\ndata: ") + 7 :])
    return delta(frame.attempt, epoch, position, data["text"][position - frame.start :]).data


def reset(epoch: int) -> bytes:
    """What was shown of earlier epochs is void; the text of `epoch` follows from its first character."""
    return event("reset", {"at": 0}, id_=event_id(epoch, 0, RESET))


def ending(end: Ending) -> bytes:
    """Citations, usage (where known) and the terminal event."""
    frames = []
    if end.citations:
        frames.append(event("citations", {"citations": [c.model_dump(mode="json") for c in end.citations]}))
    if end.usage is not None:
        frames.append(event("usage", end.usage.model_dump(mode="json")))
    data: dict[str, object] = {
        "id": str(end.completion_id),
        "message_id": str(end.message_id),
        "status": end.status,
    }
    optional = (("finish_reason", end.finish_reason), ("model", end.model))
    data |= {name: value for name, value in optional if value is not None}
    if end.error is not None:
        data["error"] = {"code": end.error.code, "message": end.error.message}
    frames.append(event(_EVENT_NAMES[end.status], data, id_=event_id(end.epoch, end.end, TERMINAL)))
    return b"".join(frames)


def failure(code: str, message: str) -> bytes:
    """Why a stream stops before its end; the completion itself goes on."""
    return event("error", {"code": code, "message": message})
