"""The stream protocol of design §6 as a model that is explored to the last state; the specification of that section.

The protocol in short. One completion has one row in Postgres and one place in a partition of `chat.chunks.v1`.
 1. The partition's order is the truth; every process reads it through the one fold, `schemas.stream_fold.accept`.
 2. Two fences. Postgres: whoever claims the row gets the next attempt number, and every later write to the row says
    `WHERE attempt = mine`. The log: the claimer appends AttemptOpened(attempt), after which no older attempt counts.
 3. Take = claim (which returns the base: the checkpoint and its offset) → AttemptOpened, acked at F → fold from the
    base to F. What older attempts landed before F is kept; what lands later does not count, for anyone.
 4. After the fold: not the current attempt → drop; finished → commit; cancelling → commit; else one provider call,
    which goes on from the text (prefill) or opens a new epoch in its first chunk (restart).
 5. A checkpoint holds acknowledged text and the offset of its last record, never what is only sent.
 6. The end: AttemptFinished, all acks, then one transaction: status, content, and the outbox row of StreamEnded.
    Whoever finds `cancelling` in the row at that moment commits `cancelled`, whatever the worker had in mind.
 7. Only a job that was never claimed (attempt 0) is ended without a Take.
 8. An edge starts from base + log and sends what its reader lacks; a reader ahead of its edge waits. A reader ends
    on StreamEnded when it has exactly its text; otherwise its edge loads the row, which is terminal by then.
 9. Where the log no longer reaches back to the base, the taker opens a new epoch with the checkpoint's text.
10. A resumed completion is a new one whose base is the kept prefix; an edge must not start it from nothing.

What may go wrong, at any step: a worker dies or is paused for longer than its lease; what it had sent lands late, in
part, or never; retention removes records; the outbox publishes late or twice; readers connect and leave; a user cancels
or deletes. `Scenario` bounds all that; `Scenario.mutation` breaks one rule, which must make an invariant fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.chunks import StreamEnded
from tests.model import stream_readers, stream_workers
from tests.model.explore import Explorer, Report
from tests.model.stream_world import TERMINAL, Reader, Row, Scenario, Truth, View, Worker, World, prefix_view, truth


def check(scenario: Scenario) -> Report:
    """Explores `scenario` to its end, or to the nearest state that breaks an invariant.

    Unless `edges_lag`, a connected edge reads before anything else happens: what it sends depends only on the log's
    prefix, so reading later commutes with every step but those that it looks up in the row (delete) or misses
    (retention). A reader who leaves while its edge lags is one who left earlier.
    """
    base = prefix_view(scenario.prefix)
    start = World(
        row=Row(base=base),
        workers=(Worker(), Worker()),
        readers=tuple(Reader(connects_left=n_connects) for n_connects in scenario.n_connects),
    )

    def actions(world: World) -> Iterator[tuple[str, World]]:
        if not scenario.edges_lag and stream_readers.has_to_read(world):
            yield from stream_readers.steps(world, scenario)
            return
        yield from stream_workers.steps(world, scenario)
        yield from stream_readers.steps(world, scenario)

    report = Explorer(start, actions, lambda world: fault(world, scenario, base), is_end).run()
    truth.cache_clear()
    return report


def is_end(world: World) -> bool:
    """The completion is terminal and every reader has its terminal event."""
    return world.row.status in TERMINAL and all(reader.ended for reader in world.readers)


def fault(world: World, scenario: Scenario, base: View) -> str | None:
    """The first invariant that does not hold in `world`."""
    known = truth(base, world.log)
    return (
        world.broken
        or known.broken
        or _row_fault(world, scenario, base, known)
        or next(filter(None, (_reader_fault(world, reader, scenario, known) for reader in world.readers)), None)
    )


def _row_fault(world: World, scenario: Scenario, base: View, known: Truth) -> str | None:
    row, state = world.row, known.view.state
    if row.offset >= 0 and not scenario.has_retention and row.base is not truth(base, world.log[: row.offset + 1]).view:
        return "the checkpoint is not the fold of the log to its offset"
    if scenario.prefill and not scenario.has_retention and state.epoch > 0:
        return "a new epoch though the provider can continue"
    if known.has_seq_jump and not scenario.has_retention:
        return "a restart whose seq is not the next"
    if row.was_cancelling and row.status not in ("cancelling", "cancelled"):
        return "a cancel was accepted and the completion did not end as cancelled"
    if len({entry for entry in world.log if isinstance(entry.record, StreamEnded)}) > 1:
        return "two different StreamEnded"
    if row.status not in TERMINAL:
        return None if state.ended is None else "StreamEnded before the final transaction"
    if row.final is None or (row.final.state.epoch, row.final.text) != (state.epoch, known.view.text):
        return f"stored is {row.final.text if row.final else None!r}, the log says {known.view.text!r}"
    return None


def _reader_fault(world: World, reader: Reader, scenario: Scenario, known: Truth) -> str | None:
    row, state = world.row, known.view.state
    if not known.texts.get(reader.epoch, "").startswith(reader.shown):
        return f"a reader is shown {reader.shown!r}, the log says {known.texts.get(reader.epoch)!r}"
    is_caught_up = reader.is_connected and reader.cursor == len(world.log) and not scenario.has_retention
    if is_caught_up and (reader.epoch, reader.shown) != (state.epoch, known.view.text):
        return f"a reader whose edge has read everything is shown {reader.shown!r}, the log says {known.view}"
    if not reader.ended or row.is_deleted:
        return None
    if row.final is None or (reader.ended, reader.shown) != (row.status, row.final.text):
        return f"a reader ended as {reader.ended} with {reader.shown!r}, stored is {row.final}"
    return None
