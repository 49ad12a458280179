"""The stream protocol's one pure function (design §6): what the records of a completion mean.

Edge, taker, tests and the model check all read through `accept`; nothing else decides whether a
record counts. The order of the completion's chunk partition is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.chunks import AttemptFinished, AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded


@dataclass(frozen=True, slots=True)
class FoldState:
    """Everything that a reader or a taker must know, always kept whole.

    `end` counts code points of the current epoch; `seq` counts counted chunks; `chunk_ends` has one entry
    per seq (0 for those of abandoned epochs); `finished` is the provider's own end; `ended` the terminal record.
    """

    attempt: int = 0
    epoch: int = 0
    end: int = 0
    seq: int = 0
    chunk_ends: tuple[int, ...] = ()
    finished: AttemptFinished | None = None
    ended: StreamEnded | None = None


EMPTY = FoldState()


def prefix_state(length: int) -> FoldState:
    """The base of a resumed message whose kept prefix has `length` code points."""
    return FoldState(end=length, seq=1, chunk_ends=(length,)) if length else EMPTY


def accept(state: FoldState, record: ChunkRecord) -> FoldState:
    """The state after `record`; the very same object iff the record does not count."""
    match record:
        case CompletionChunk():
            return _accept_chunk(state, record)
        case AttemptOpened(attempt=attempt) if attempt > state.attempt:
            return replace(state, attempt=attempt)
        case AttemptFinished() if (record.attempt, record.epoch, record.end) == (state.attempt, state.epoch, state.end):
            return replace(state, finished=record)
        case StreamEnded():
            return replace(state, ended=record)
        case _:
            return state


def _accept_chunk(state: FoldState, chunk: CompletionChunk) -> FoldState:
    """Follows, or restarts: any higher epoch from 0, whose chunk says its own seq (decision 0004)."""
    if chunk.attempt != state.attempt or chunk.end - chunk.start != len(chunk.text):
        return state
    if (chunk.epoch, chunk.start) == (state.epoch, state.end):
        seq, ends, finished = state.seq + 1, (*state.chunk_ends, chunk.end), state.finished
    elif chunk.epoch > state.epoch and chunk.start == 0:
        seq, ends, finished = chunk.seq, (*((0,) * (chunk.seq - 1)), chunk.end), None
    else:
        return state
    return FoldState(chunk.attempt, chunk.epoch, chunk.end, seq, ends, finished, state.ended)
