"""The nouns of the stream model: records, views, the row in Postgres, workers, readers, and the truth of a log."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple, TypeAlias
from uuid import UUID

from schemas import stream_fold
from schemas.chunks import AttemptFinished, AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded
from schemas.events import CompletionStatus, TerminalStatus, TokenUsage
from schemas.stream_fold import FoldState

_ID = UUID(int=1)
TERMINAL = ("complete", "failed", "cancelled")

Mutation: TypeAlias = Literal[
    "taker_sends_no_attempt_opened",
    "taker_folds_only_to_its_checkpoint",
    "taker_ignores_finished",
    "taker_calls_though_cancelling",
    "call_unfenced",
    "taker_ignores_lost_log",
    "restart_without_new_epoch",
    "checkpoint_of_sent_text",
    "checkpoint_unfenced",
    "final_unfenced",
    "final_before_acks",
    "final_ignores_cancel",
    "ended_published_outside_transaction",
    "reader_ignores_attempt",
    "reader_ends_short",
    "reader_starts_resumed_from_empty",
    "edge_refuses_at_once",
    "edge_sends_from_where_it_is",
    "gap_keeps_old_attempt",
    "lost_log_checkpoints_at_once",
    "lost_log_ends_in_the_old_epoch",
]


@dataclass(frozen=True)
class Scenario:
    """Bounds of one exploration, and the one rule (if any) that is broken on purpose."""

    n_chars: int = 2
    n_faults: int = 1  # crashes and lease expiries of a living holder happen to attempts 1 … n_faults only
    n_in_flight: int = 2
    n_connects: tuple[int, ...] = (1,)  # one entry a reader: how often it may connect, each time to a fresh edge
    prefill: bool = True
    prefix: str = ""  # text kept by the completion that this one resumes
    can_cancel: bool = False
    can_delete: bool = False
    can_fail: bool = False
    has_retention: bool = False  # once, at any moment, retention removes all records, or all but the last
    epoch_is_attempt: bool = False  # a restart's epoch is its attempt's number, not the next one
    edges_lag: bool = False  # explore edges that read later than they can (see `stream_model.check`)
    mutation: Mutation | None = None


class Entry:
    """A record in a log. Made only by the cached functions below: equal records are one object."""

    __slots__ = ("label", "record")

    def __init__(self, record: ChunkRecord, label: str) -> None:
        self.record, self.label = record, label


@cache
def opened(attempt: int) -> Entry:
    return Entry(AttemptOpened(completion_id=_ID, attempt=attempt), f"AttemptOpened({attempt})")


@cache
def chunk(attempt: int, epoch: int, seq: int, start: int, text: str) -> Entry:
    end = start + len(text)
    body = CompletionChunk(completion_id=_ID, attempt=attempt, epoch=epoch, seq=seq, start=start, end=end, text=text)
    return Entry(body, f"Chunk({attempt=} {epoch=} {seq=} {start=} {text!r})")


@cache
def finished(attempt: int, epoch: int, end: int) -> Entry:
    usage = TokenUsage(input_tokens=1, output_tokens=end)
    body = AttemptFinished(completion_id=_ID, attempt=attempt, epoch=epoch, end=end, finish_reason="stop", usage=usage)
    return Entry(body, f"AttemptFinished({attempt=} {epoch=} {end=})")


@cache
def ended(epoch: int, end: int, status: TerminalStatus) -> Entry:
    body = StreamEnded(completion_id=_ID, epoch=epoch, end=end, status=status, message_id=_ID)
    return Entry(body, f"StreamEnded({epoch=} {end=} {status})")


class View:
    """A fold's state with the text it yields. Interned: equal views are one object, hashed by identity."""

    __slots__ = ("_after", "state", "text")
    _all: ClassVar[dict[tuple[FoldState, str], View]] = {}

    def __init__(self, state: FoldState, text: str) -> None:
        self.state, self.text = state, text
        self._after: dict[Entry, View] = {}

    def __repr__(self) -> str:
        return f"{self.text!r} in epoch {self.state.epoch}"

    @classmethod
    def of(cls, state: FoldState, text: str) -> View:
        return cls._all.setdefault((state, text), cls(state, text))

    def after(self, entry: Entry) -> View:
        """What a reader knows who knew `self` and reads `entry`: through the project's one fold."""
        if entry not in self._after:
            self._after[entry] = self._accepted(entry.record)
        return self._after[entry]

    def _accepted(self, record: ChunkRecord) -> View:
        state = stream_fold.accept(self.state, record)
        if state is self.state:
            return self
        if not isinstance(record, CompletionChunk):
            return View.of(state, self.text)
        return View.of(state, record.text if state.epoch > self.state.epoch else self.text + record.text)


def prefix_view(prefix: str) -> View:
    """The base of a completion that resumes an earlier one's `prefix` (or of a new one: empty)."""
    return View.of(stream_fold.prefix_state(len(prefix)), prefix)


class Row(NamedTuple):
    """The completion's row in Postgres. `base` at `offset` is the checkpoint; -1: no offset yet."""

    base: View
    status: CompletionStatus = "pending"
    attempt: int = 0
    is_leased: bool = False
    offset: int = -1
    is_deleted: bool = False
    final: View | None = None  # what the final transaction stored
    outbox: Literal["empty", "pending", "unmarked", "done"] = "empty"
    was_cancelling: bool = False


class Worker(NamedTuple):
    """A worker. `acked` is its fold of all that the broker has acknowledged, `sent` of all that it has sent."""

    phase: Literal["idle", "opening", "folding", "calling", "ending"] = "idle"
    attempt: int = 0
    acked: View | None = None
    sent: View | None = None
    offset: int = -1  # of its last acknowledged record
    in_flight: tuple[Entry, ...] = ()
    outcome: Literal["", "cancelled", "complete", "failed"] = ""
    opens_epoch: bool = False  # the next chunk begins a new epoch
    is_reopening: bool = False  # the log was lost: until its first chunk is acked, its fold is nobody's truth


class Reader(NamedTuple):
    """A client and the edge that serves it: `view` is the edge's fold, `shown` what the client has."""

    connects_left: int
    is_connected: bool = False
    view: View | None = None
    cursor: int = 0  # the next offset that the edge reads
    log_end: int = 0  # the partition's end as it was at connect
    has_gap: bool = False
    epoch: int = 0
    shown: str = ""
    last_id: tuple[int, int, int] = (-1, 0, 0)
    ended: str = ""  # the terminal event that the client got
    broken: str = ""  # what its edge must never send


class World(NamedTuple):
    """One state. `orphans` are what crashed producers have sent and the broker may still append."""

    row: Row
    workers: tuple[Worker, ...]
    readers: tuple[Reader, ...]
    log: tuple[Entry, ...] = ()
    log_start: int = 0  # retention has removed what stands before
    orphans: tuple[tuple[Entry, ...], ...] = ()
    broken: str = ""  # an action that must never be taken was taken


class Truth(NamedTuple):
    """What a log says to one who read all of it; `texts[e]` is the last text of epoch `e`."""

    view: View
    texts: dict[int, str]
    broken: str = ""
    has_seq_jump: bool = False  # a restart's seq was not the next one: only a lost log excuses that


@cache
def truth(base: View, log: tuple[Entry, ...]) -> Truth:
    """Reads `log` from `base`, and checks what the fold itself owes."""
    if not log:
        return Truth(base, {base.state.epoch: base.text})
    before = truth(base, log[:-1])
    view, record = before.view.after(log[-1]), log[-1].record
    broken, has_seq_jump = before.broken, before.has_seq_jump
    if view is not before.view and isinstance(record, CompletionChunk):
        broken = broken or _chunk_fault(before.view.state, view, record)
        has_seq_jump = has_seq_jump or record.seq != before.view.state.seq + 1
    return Truth(view, before.texts | {view.state.epoch: view.text}, broken, has_seq_jump)


def _chunk_fault(before: FoldState, view: View, record: CompletionChunk) -> str:
    """Positions contiguous, `seq` as written, one `chunk_ends` a seq."""
    state = view.state
    if (state.attempt, state.epoch, state.end) != (record.attempt, record.epoch, len(view.text)):
        return "fold: a chunk counts that is not where the state says"
    if state.seq != record.seq or len(state.chunk_ends) != state.seq or state.chunk_ends[-1] != state.end:
        return "fold: a chunk counts whose seq is not the next, or chunk_ends do not match"
    if record.epoch == before.epoch and (record.start, record.seq) != (before.end, before.seq + 1):
        return "fold: positions or seq are not contiguous within an epoch"
    return ""
