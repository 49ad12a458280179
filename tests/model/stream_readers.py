"""What edges do for readers: connect from base + log, fold, send what is missing, end.

Reference for producers/edge. Readers change nothing outside themselves, so they need not be crossed with each
other: a scenario with one reader that may connect at any moment covers any number of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from schemas.chunks import CompletionChunk
from schemas.stream_fold import EMPTY
from tests.model.stream_world import TERMINAL, Entry, Reader, Scenario, View, World, chunk

RESET, DELTA, END = 0, 1, 2  # the third part of an id
Step = tuple[str, World]


class ProtocolError(Exception):
    """An edge would send what no reader may see."""


def has_to_read(world: World) -> bool:
    """Some edge lags behind the log."""
    return any(reader.is_connected and reader.cursor < len(world.log) for reader in world.readers)


def steps(world: World, scenario: Scenario) -> Iterator[Step]:
    """All that readers and their edges can do next."""
    for number, reader in enumerate(world.readers):
        if reader.ended:
            continue
        for label, after in _reader_steps(world, reader, scenario):
            before, behind = world.readers[:number], world.readers[number + 1 :]
            yield f"reader {number}: {label}", world._replace(readers=(*before, after, *behind), broken=after.broken)


def _reader_steps(world: World, reader: Reader, scenario: Scenario) -> Iterator[tuple[str, Reader]]:
    if not reader.is_connected:
        yield from _connects(world, reader, scenario)
        return
    if reader.cursor < world.log_start:
        yield "finds a gap, loads the base again", _guarded(world, reader, scenario, None)
    elif reader.cursor < len(world.log):
        entry = world.log[reader.cursor]
        yield f"reads {entry.label}", _guarded(world, reader, scenario, entry)
    if reader.connects_left:
        left = reader._replace(is_connected=False, view=None, cursor=0, log_end=0, has_gap=False)
        yield "disconnects", left


def _connects(world: World, reader: Reader, scenario: Scenario) -> Iterator[tuple[str, Reader]]:
    """A fresh edge starts from the row; one whose ring has all of the completion (no prefix) from nothing."""
    fresh = reader._replace(is_connected=True, connects_left=reader.connects_left - 1)
    is_wrong = scenario.mutation == "reader_starts_resumed_from_empty"
    if not is_wrong:
        yield "connects to a fresh edge", _guarded(world, fresh, scenario, None)
    row = world.row
    has_all = not scenario.prefix and world.log_start == 0 and row.base.state is not EMPTY
    if is_wrong or (has_all and not row.is_deleted):
        all_of_it = fresh._replace(view=View.of(EMPTY, ""), log_end=len(world.log))
        yield "connects to an edge that has it all", _guarded(world, all_of_it, scenario, None, keep=True)


def _guarded(world: World, reader: Reader, scenario: Scenario, entry: Entry | None, *, keep: bool = False) -> Reader:
    try:
        if entry is not None:
            reader = _read(reader, entry, scenario)
        elif not keep:
            reader = _loaded(world, reader, scenario)
        return reader if reader.ended else _served(world, reader, scenario)
    except ProtocolError as error:
        return reader._replace(broken=str(error))


def _loaded(world: World, reader: Reader, scenario: Scenario) -> Reader:
    """Begins from the row: its stored content if it is terminal, else base + log.

    With a gap between the two, AttemptOpened records may be lost: the row's attempt stands in for them.
    """
    row = world.row
    if row.status in TERMINAL or row.is_deleted:
        return _from_postgres(world, reader)
    first, base, has_gap = row.offset + 1, row.base, row.offset + 1 < world.log_start
    if has_gap and scenario.mutation != "gap_keeps_old_attempt":
        base = View.of(replace(base.state, attempt=row.attempt), base.text)
    return reader._replace(view=base, cursor=max(first, world.log_start), has_gap=has_gap, log_end=len(world.log))


def _read(reader: Reader, entry: Entry, scenario: Scenario) -> Reader:
    """The edge folds one record more."""
    assert reader.view is not None
    record, before = entry.record, reader.view
    if scenario.mutation == "reader_ignores_attempt" and isinstance(record, CompletionChunk):
        entry = chunk(before.state.attempt, record.epoch, record.seq, record.start, record.text)
    view = before.after(entry)
    reader = reader._replace(view=view, cursor=reader.cursor + 1)
    if scenario.mutation == "edge_sends_from_where_it_is" and view.state.epoch == before.state.epoch == reader.epoch:
        return reader._replace(shown=reader.shown + view.text[len(before.text) :])
    return reader


def _served(world: World, reader: Reader, scenario: Scenario) -> Reader:
    """Sends all that the reader lacks of what its edge knows, and the terminal event if it is time."""
    assert reader.view is not None
    state = reader.view.state
    has_passed = reader.cursor >= reader.log_end or scenario.mutation == "edge_refuses_at_once"
    if (reader.epoch, len(reader.shown)) <= (state.epoch, state.end):
        reader = _sent(reader, reader.view)
    elif has_passed and not reader.has_gap and state.ended is None:
        raise ProtocolError("an honest reader is refused: invalid_last_event_id")
    if state.ended is None:
        return reader
    is_whole = (reader.epoch, len(reader.shown)) == (state.ended.epoch, state.ended.end)
    if is_whole or scenario.mutation == "reader_ends_short":
        return _ended(_event(reader, END), state.ended.status)
    return _from_postgres(world, reader)


def _from_postgres(world: World, reader: Reader) -> Reader:
    """Ends from the stored content; a deleted session has none: a live reader gets `cancelled`, a new one 404."""
    row = world.row
    if row.is_deleted:
        return _ended(reader, "cancelled" if reader.view is not None else "not found")
    if row.status not in TERMINAL or row.final is None:
        raise ProtocolError("a stream has ended whose row has not")
    return _ended(_event(_sent(reader, row.final), END), row.status)


def _ended(reader: Reader, event: str) -> Reader:
    """The reader at rest, with what it was shown."""
    return Reader(connects_left=0, epoch=reader.epoch, shown=reader.shown, last_id=reader.last_id, ended=event)


def _sent(reader: Reader, view: View) -> Reader:
    """`reset` if the reader holds another epoch, then the text it lacks."""
    if view.state.epoch < reader.epoch:
        raise ProtocolError("reset goes back to an older epoch")
    if view.state.epoch > reader.epoch:
        reader = _event(reader._replace(epoch=view.state.epoch, shown=""), RESET)
    if not view.text.startswith(reader.shown):
        raise ProtocolError(f"the reader holds {reader.shown!r}, its edge {view.text!r}, in the same epoch")
    return reader if view.text == reader.shown else _event(reader._replace(shown=view.text), DELTA)


def _event(reader: Reader, kind: int) -> Reader:
    """An event with an id; ids are unique and increase as (epoch, position, kind)."""
    event_id = (reader.epoch, len(reader.shown), kind)
    if event_id <= reader.last_id:
        raise ProtocolError(f"event id {event_id} after {reader.last_id}")
    return reader._replace(last_id=event_id)
