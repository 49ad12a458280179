"""One completion's stream on this edge: folded once, framed once, read by any number of clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

from producers.edge import frames
from producers.edge.frames import Ending, Frame, Position
from schemas.chunks import ChunkRecord, CompletionChunk
from schemas.stream_fold import EMPTY, FoldState, accept
from telemetry.metrics import STREAM_RESETS


@dataclass(frozen=True, slots=True)
class Base:
    """Where a channel begins: a checkpoint's fold with its text (design §6), or nothing."""

    state: FoldState
    text: str


MAX_FRAME_CHARS = 8 * 1024
"""A long base is framed in pieces, so that a slow reader does not hold a copy of all of it."""
MAX_WRITE_BYTES = 64 * 1024
"""What one reader is given at once; the rest stays in the channel, which all of its readers share."""

EMPTY_BASE = Base(EMPTY, "")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose completion it is, and which message it fills."""

    tenant_id: UUID
    user_id: UUID
    session_id: UUID
    message_id: UUID


class Channel:
    """The fold of one completion and the frames of its current epoch.

    Every frame of `frames` stands at its own positions, without gaps, from 0 to `state.end`. After `end` or `fail`
    nothing changes any more.
    """

    def __init__(self, completion_id: UUID, owner: Owner, base: Base) -> None:
        self.completion_id = completion_id
        self.owner = owner
        self.state = base.state
        self.frames: list[Frame] = []
        self.closing: bytes | None = None
        self.is_short = False
        self.has_gap = False
        self.n_open = 0
        self.readers: set[Callable[[], None]] = set()
        for start in range(0, len(base.text), MAX_FRAME_CHARS):
            piece = base.text[start : start + MAX_FRAME_CHARS]
            self.frames.append(frames.delta(base.state.attempt, base.state.epoch, start, piece))

    @classmethod
    def ended(cls, owner: Owner, ending: Ending, text: str) -> Channel:
        """One that is over, with its whole text."""
        state = FoldState(epoch=ending.epoch, end=ending.end)
        channel = cls(ending.completion_id, owner, Base(state, text))
        channel.close(ending)
        return channel

    @property
    def position(self) -> Position:
        """How far this edge knows the text."""
        return Position(self.state.epoch, self.state.end)

    def read(self, record: ChunkRecord) -> None:
        """Folds the next record. `is_short`: the stream ended elsewhere than here; `has_gap`: records are missing."""
        if self.closing is not None or self.is_short:
            return
        before = self.state
        after = self.state = accept(before, record)
        if after is before:
            self.has_gap = self.has_gap or _is_beyond(before, record)
            return
        if isinstance(record, CompletionChunk):
            if after.epoch != before.epoch:
                self.frames.clear()
            if record.text:
                self.frames.append(frames.delta_of(record))
        if after.ended is not None:
            ended = Ending.of(after.ended)
            if (ended.epoch, ended.end) == self.position:
                self.closing = frames.ending(ended)
            else:
                self.is_short = True

    def fence(self, attempt: int) -> None:
        """From here on nothing of earlier attempts counts."""
        if attempt > self.state.attempt:
            self.state = replace(self.state, attempt=attempt)

    def adopt(self, other: Channel) -> None:
        """Becomes what a newer look at base and log has found; it never goes back."""
        self.has_gap = other.has_gap
        if other.position >= self.position or other.closing is not None:
            self.state, self.frames, self.closing = other.state, other.frames, other.closing
            self.is_short = False

    def close(self, ended: Ending) -> None:
        """The completion is terminal, and its text is what is known here."""
        self.closing = frames.ending(ended)

    def fail(self, code: str, message: str) -> None:
        """Stops the readers with an error; the completion goes on."""
        if self.closing is None:
            self.closing = frames.failure(code, message)

    def wake(self) -> None:
        """Tells the readers that there is something new."""
        for wake in self.readers:
            wake()


class Cursor:
    """How far one reader was served. What it has is never sent again; what it lacks always is."""

    def __init__(self, channel: Channel, last: Position | None) -> None:
        self._channel = channel
        self._epoch, self._end = last if last is not None else (channel.state.epoch, 0)
        self.is_done = False
        self.has_more = False

    @property
    def is_ahead(self) -> bool:
        """Whether the reader knows more than the edge."""
        return (self._epoch, self._end) > self._channel.position

    def take(self) -> bytes:
        """What is new for the reader, in one piece; `has_more` if that is not all."""
        channel, parts, size = self._channel, [], 0
        self.has_more = False
        if self._epoch < channel.state.epoch:
            STREAM_RESETS.inc()
            parts.append(frames.reset(channel.state.epoch))
            self._epoch, self._end = channel.state.epoch, 0
        if self._epoch == channel.state.epoch:
            new = len(channel.frames)
            while new and channel.frames[new - 1].end > self._end:
                new -= 1
            for frame in islice(channel.frames, new, None):
                if size >= MAX_WRITE_BYTES:
                    self.has_more = True
                    break
                is_whole = frame.start >= self._end
                parts.append(frame.data if is_whole else frames.cut(frame, self._epoch, self._end))
                self._end = frame.end
                size += len(parts[-1])
        if channel.closing is not None and not self.has_more:
            parts.append(channel.closing)
            self.is_done = True
        return b"".join(parts)


def _is_beyond(state: FoldState, record: ChunkRecord) -> bool:
    """Whether a record that does not count tells that earlier ones were missed."""
    if not isinstance(record, CompletionChunk) or record.end - record.start != len(record.text):
        return False
    if record.attempt != state.attempt:
        return record.attempt > state.attempt
    return (record.epoch, record.start) > (state.epoch, state.end)
