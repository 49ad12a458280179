"""The fold: what counts, what does not, and that stale records never matter."""

from __future__ import annotations

from functools import reduce
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.chunks import AttemptFinished, AttemptOpened, ChunkRecord, CompletionChunk, StreamEnded
from schemas.events import TerminalStatus, TokenUsage
from schemas.stream_fold import EMPTY, FoldState, accept, prefix_state

ID = UUID(int=7)
USAGE = TokenUsage(input_tokens=1, output_tokens=1)


def opened(attempt: int) -> AttemptOpened:
    return AttemptOpened(completion_id=ID, attempt=attempt)


def chunk(attempt: int, epoch: int, seq: int, start: int, text: str) -> CompletionChunk:
    return CompletionChunk(
        completion_id=ID, attempt=attempt, epoch=epoch, seq=seq, start=start, end=start + len(text), text=text
    )


def finished(attempt: int, epoch: int, end: int) -> AttemptFinished:
    return AttemptFinished(completion_id=ID, attempt=attempt, epoch=epoch, end=end, finish_reason="stop", usage=USAGE)


def ended(epoch: int, end: int, status: TerminalStatus = "complete") -> StreamEnded:
    return StreamEnded(completion_id=ID, epoch=epoch, end=end, status=status, message_id=ID)


def fold(records: list[ChunkRecord], base: FoldState = EMPTY) -> FoldState:
    return reduce(accept, records, base)


def texts(records: list[ChunkRecord], base: str = "") -> dict[int, str]:
    """The text of every epoch, by the state's own account of what counted."""
    state, shown = prefix_state(len(base)), {0: base}
    for record in records:
        after = accept(state, record)
        if after is not state and isinstance(record, CompletionChunk):
            kept = shown.get(after.epoch, "") if after.epoch == state.epoch else ""
            shown[after.epoch] = kept + record.text
        state = after
    return shown


@st.composite
def histories(draw: st.DrawFn) -> list[ChunkRecord]:
    """The log of a completion in which everything counts: attempts that continue, restart or finish."""
    records: list[ChunkRecord] = []
    state, attempt = EMPTY, 0
    for _ in range(draw(st.integers(1, 4))):
        attempt += draw(st.integers(1, 2))
        run: list[ChunkRecord] = [opened(attempt)]
        is_restart = draw(st.booleans()) and state.end > 0
        epoch, end, seq = (attempt, 0, state.seq) if is_restart else (state.epoch, state.end, state.seq)
        for text in draw(st.lists(st.text(max_size=4), min_size=int(is_restart), max_size=4)):
            seq += 1
            run.append(chunk(attempt, epoch, seq, end, text))
            end += len(text)
        if draw(st.booleans()):
            run.append(finished(attempt, epoch, end))
        records += run
        state = fold(run, state)
    return records


numbers = st.integers(0, 4)
any_record: st.SearchStrategy[ChunkRecord] = st.one_of(
    st.builds(opened, numbers),
    st.builds(chunk, numbers, numbers, st.integers(1, 4), numbers, st.text(max_size=2)),
    st.builds(finished, numbers, numbers, numbers),
    st.builds(ended, numbers, numbers, st.sampled_from(["complete", "failed", "cancelled"])),
)


@given(histories())
def test_every_record_of_a_clean_history_counts(history: list[ChunkRecord]) -> None:
    state = EMPTY
    for record in history:
        after = accept(state, record)
        assert after is not state
        state = after


@given(histories(), st.data())
def test_stale_records_change_nothing_wherever_they_land(history: list[ChunkRecord], data: st.DataObject) -> None:
    mixed: list[ChunkRecord] = []
    current = 0
    for record in history:
        mixed.append(record)
        if isinstance(record, AttemptOpened):
            current = record.attempt
        stale = st.one_of(
            st.builds(opened, st.integers(0, current)),
            st.builds(chunk, st.integers(0, current - 1), numbers, st.integers(1, 4), numbers, st.text(max_size=2)),
            st.builds(finished, st.integers(0, current - 1), numbers, numbers),
        )
        mixed += data.draw(st.lists(stale, max_size=2))
    assert fold(mixed) == fold(history)
    assert texts(mixed) == texts(history)


@given(histories())
def test_replaying_the_whole_log_changes_nothing(history: list[ChunkRecord]) -> None:
    """A reader that is handed a tail twice: nothing of it counts again, unless it is a fact without text."""
    state = fold(history)
    again = [record for record in history if not isinstance(record, CompletionChunk) or record.text]
    assert fold(again, state) == state


@given(st.lists(any_record, max_size=30), st.integers(0, 3))
def test_whatever_comes_the_state_is_whole_and_never_goes_back(records: list[ChunkRecord], n_kept: int) -> None:
    state = prefix_state(n_kept)
    for record in records:
        after = accept(state, record)
        assert len(after.chunk_ends) == after.seq
        assert not after.chunk_ends or after.chunk_ends[-1] == after.end
        assert (after.attempt, after.epoch) >= (state.attempt, state.epoch)
        assert after.epoch > state.epoch or after.seq >= state.seq
        assert after.epoch > state.epoch or after.end >= state.end
        state = after


@given(st.lists(any_record, max_size=20), any_record)
def test_the_same_object_comes_back_iff_the_record_does_not_count(
    before: list[ChunkRecord], record: ChunkRecord
) -> None:
    state = fold(before)
    match record:
        case AttemptOpened():
            counts = record.attempt > state.attempt
        case CompletionChunk():
            follows = (record.epoch, record.start) == (state.epoch, state.end)
            restarts = record.epoch > state.epoch and record.start == 0
            counts = record.attempt == state.attempt and (follows or restarts)
        case AttemptFinished():
            counts = (record.attempt, record.epoch, record.end) == (state.attempt, state.epoch, state.end)
        case _:
            counts = True
    assert (accept(state, record) is not state) == counts


def test_attempt_opened_only_fences() -> None:
    state = fold([opened(1), chunk(1, 0, 1, 0, "ab"), finished(1, 0, 2)])
    after = accept(state, opened(3))
    assert after.attempt == 3
    assert (after.epoch, after.end, after.seq, after.chunk_ends) == (0, 2, 1, (2,))
    assert after.finished is state.finished


def test_a_higher_attempt_ends_the_older_one_in_the_middle() -> None:
    records = [opened(1), chunk(1, 0, 1, 0, "ab"), opened(2), chunk(1, 0, 2, 2, "XX"), chunk(2, 0, 2, 2, "cd")]
    assert texts(records) == {0: "abcd"}


def test_a_restart_clears_finished_and_the_ends_of_the_abandoned_epoch() -> None:
    before = [opened(1), chunk(1, 0, 1, 0, "ab"), chunk(1, 0, 2, 2, "c"), finished(1, 0, 3), opened(2)]
    state = fold([*before, chunk(2, 1, 3, 0, "xyz")])
    assert (state.epoch, state.end, state.seq, state.chunk_ends) == (1, 3, 3, (0, 0, 3))
    assert state.finished is None


def test_the_first_chunk_of_a_restart_may_be_empty() -> None:
    state = fold([opened(1), chunk(1, 0, 1, 0, "ab"), opened(2), chunk(2, 1, 2, 0, ""), chunk(2, 1, 3, 0, "x")])
    assert (state.epoch, state.end, state.chunk_ends) == (1, 1, (0, 0, 1))


@pytest.mark.parametrize("late", [finished(1, 0, 2), finished(2, 0, 1), finished(2, 1, 2)], ids=str)
def test_attempt_finished_counts_only_where_all_three_match(late: AttemptFinished) -> None:
    state = fold([opened(1), chunk(1, 0, 1, 0, "ab"), opened(2)])
    assert accept(state, late) is state
    assert accept(state, finished(2, 0, 2)).finished == finished(2, 0, 2)


@given(st.lists(any_record, max_size=10), numbers, numbers)
def test_stream_ended_always_counts_and_changes_nothing_else(before: list[ChunkRecord], epoch: int, end: int) -> None:
    state = fold([record for record in before if not isinstance(record, StreamEnded)])
    last = ended(epoch, end, "cancelled")
    after = accept(state, last)
    assert after.ended is last
    assert (after.attempt, after.epoch, after.end, after.seq) == (state.attempt, state.epoch, state.end, state.seq)


def test_positions_count_code_points() -> None:
    state = fold([opened(1), chunk(1, 0, 1, 0, "é🔥"), chunk(1, 0, 2, 2, "漢")])
    assert (state.end, state.chunk_ends) == (3, (2, 3))


def test_a_prefix_is_one_seq_and_no_attempt() -> None:
    state = prefix_state(5)
    assert (state.attempt, state.epoch, state.end, state.seq, state.chunk_ends) == (0, 0, 5, 1, (5,))
    records = [opened(1), chunk(1, 0, 2, 5, "!")]
    assert fold(list(records), state).chunk_ends == (5, 6)
    assert texts(list(records), "Hello") == {0: "Hello!"}


def test_a_resumed_stream_says_nothing_to_a_reader_without_the_prefix() -> None:
    state = fold([opened(1), chunk(1, 0, 2, 5, "!")])
    assert (state.end, state.seq) == (0, 0)


def test_no_prefix_is_the_empty_state() -> None:
    assert prefix_state(0) is EMPTY
