"""Server-sent events, decoded as they arrive (WHATWG HTML standard, 9.2.6 "Interpreting an event stream")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_EVENT_BYTES = 64 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; `id` is the last id seen up to it ("" where there was none)."""

    event: str
    data: str
    id: str = ""


@dataclass(slots=True)
class SseDecoder:
    """Bytes in, in any pieces; events out. `last_event_id` is what a reconnect sends."""

    last_event_id: str = ""
    _rest: bytes = b""
    _at_start: bool = True
    _event: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0

    def __post_init__(self) -> None:
        self._id = self.last_event_id

    def feed(self, piece: bytes) -> Iterator[SseEvent]:
        """The events that this piece completes. Raises: ValueError for an event beyond `MAX_EVENT_BYTES`."""
        for line in self._lines(piece):
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                yield event

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        text = self._rest + piece
        if self._at_start:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return
            text, self._at_start = text.removeprefix(_BOM), False
        start = 0
        for end in _LINE_END.finditer(text):
            if end.group() == b"\r" and end.end() == len(text):
                break  # the second half of a CRLF may be still to come
            yield text[start : end.start()]
            start = end.end()
        self._rest = text[start:]
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode(errors="replace")
        match name:
            case b"data":
                self._data.append(text)
                self._size += len(value)
            case b"event":
                self._event = text
            case b"id" if "\0" not in text:
                self._id = text
            case _:  # a comment (no name) or a field that we do not know
                pass

    def _dispatch(self) -> SseEvent | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        return SseEvent(event or "message", "\n".join(data), self._id) if data else None
