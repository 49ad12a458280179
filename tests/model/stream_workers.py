"""What workers, the transcript, the outbox and the broker do to a completion: every step that can happen next.

Reference for consumers/completions. One yielded step is atomic: one transaction, one record appended, one crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from schemas.chunks import CompletionChunk
from schemas.events import TerminalStatus
from tests.model.stream_world import (
    TERMINAL,
    Entry,
    Row,
    Scenario,
    View,
    Worker,
    World,
    chunk,
    ended,
    finished,
    opened,
    prefix_view,
    truth,
)

Step = tuple[str, World]


def steps(world: World, scenario: Scenario) -> Iterator[Step]:
    """All that can happen next outside of readers and edges."""
    yield from _claims(world)
    for number, worker in enumerate(world.workers):
        if worker.phase != "idle":
            for label, row, after, log in _worker_steps(world, worker, scenario):
                yield f"attempt {worker.attempt}: {label}", _with_worker(world, number, after, row=row, log=log)
            yield from _faults(world, number, scenario)
        if worker.phase == "folding":
            yield from _take(world, number, scenario)
    yield from _orphans(world)
    yield from _publishes(world)
    yield from _requests(world, scenario)
    if scenario.has_retention and world.log_start == 0 and world.log:
        yield "retention removes all there is", world._replace(log_start=len(world.log))
        if len(world.log) > 1:
            yield "retention removes all but the last", world._replace(log_start=len(world.log) - 1)


def _claims(world: World) -> Iterator[Step]:
    """Take, first part. A pending job, or one whose lease has expired, gets attempt n + 1; the base is returned."""
    row = world.row
    idle = next((number for number, worker in enumerate(world.workers) if worker.phase == "idle"), None)
    if idle is None or row.is_leased or row.status in TERMINAL:
        return
    attempt = row.attempt + 1
    is_cancelling = row.status == "cancelling"
    taker = Worker(
        phase="opening",
        attempt=attempt,
        acked=row.base,
        offset=row.offset,
        in_flight=(opened(attempt),),
        outcome="cancelled" if is_cancelling else "",
    )
    status: Literal["cancelling", "in_progress"] = "cancelling" if is_cancelling else "in_progress"
    claimed = row._replace(status=status, attempt=attempt, is_leased=True)
    yield f"attempt {attempt}: claims", _with_worker(world, idle, taker, row=claimed)


Change = tuple[str, Row, Worker, tuple[Entry, ...]]


def _worker_steps(world: World, worker: Worker, scenario: Scenario) -> Iterator[Change]:
    """The next steps of a living worker, but for the provider call."""
    row, log, mutation = world.row, world.log, scenario.mutation
    if worker.in_flight:
        yield _lands(world, worker, scenario)
    if worker.phase == "calling":
        for label, after in _writes(worker, scenario):
            yield label, row, after, log
        if row.status == "cancelling" and row.attempt == worker.attempt:
            yield "sees the cancel", row, worker._replace(phase="ending", outcome="cancelled"), log
    if worker.phase in ("calling", "ending"):
        yield from _checkpoints(world, worker, scenario)
    if worker.phase == "ending" and (not worker.in_flight or mutation == "final_before_acks"):
        yield from _final(world, worker, scenario)


def _lands(world: World, worker: Worker, scenario: Scenario) -> Change:
    """The broker appends the worker's oldest record in flight and the worker gets the ack.

    An ack that comes late is the same as a worker that acts on it late, so landing and ack are one step.
    """
    entry, rest = worker.in_flight[0], worker.in_flight[1:]
    if worker.phase == "opening":
        log = world.log if scenario.mutation == "taker_sends_no_attempt_opened" else (*world.log, entry)
        return f"{entry.label} acked", world.row, worker._replace(phase="folding", in_flight=rest), log
    assert worker.acked is not None
    after = worker._replace(
        acked=_believes(worker.acked, entry), offset=len(world.log), in_flight=rest, is_reopening=False
    )
    return f"{entry.label} acked", world.row, after, (*world.log, entry)


def _believes(view: View, entry: Entry) -> View:
    """A producer's own fold; with a broken rule it takes its record for counted where the fold does not."""
    after, record = view.after(entry), entry.record
    if after is not view or not isinstance(record, CompletionChunk):
        return after
    ends = (*view.state.chunk_ends, record.end)
    state = replace(view.state, attempt=record.attempt, end=record.end, seq=record.seq, chunk_ends=ends)
    return View.of(state, view.text[: record.start] + record.text)


def _take(world: World, number: int, scenario: Scenario) -> Iterator[Step]:
    """Take, second part: fold to the own AttemptOpened, then decide between drop, end and call.

    The call is preceded by a fenced statement (the first attempt stores the context, later ones checkpoint their fold),
    RETURNING status: a worker that was paused since its claim must not pay for what another has finished meanwhile.
    """
    worker = world.workers[number]
    assert worker.acked is not None
    name, mutation = f"attempt {worker.attempt}", scenario.mutation
    is_lost = world.log_start > worker.offset + 1 and mutation != "taker_ignores_lost_log"
    view = worker.acked.after(opened(worker.attempt)) if is_lost else _folded(world, worker, scenario)
    if view.state.attempt != worker.attempt and mutation != "taker_sends_no_attempt_opened":
        yield f"{name}: is not the current one in the log, drops the job", _with_worker(world, number, Worker())
        return
    ready = worker._replace(acked=view, sent=view, offset=len(world.log) - 1)
    if mutation != "taker_sends_no_attempt_opened":
        ready = ready._replace(offset=world.log.index(opened(worker.attempt)))
    is_cancelling = worker.outcome == "cancelled" or world.row.status == "cancelling"
    broken = ""
    if view.state.finished is not None and mutation != "taker_ignores_finished":
        ready = ready._replace(phase="ending", outcome="complete")
    elif is_cancelling and mutation != "taker_calls_though_cancelling":
        ready = ready._replace(phase="ending", outcome="cancelled")
    elif world.row.attempt != worker.attempt and mutation != "call_unfenced":
        ready = Worker()
    else:
        opens_epoch = not is_lost and not scenario.prefill and view.state.end > 0
        ready = ready._replace(phase="calling", outcome="", opens_epoch=opens_epoch)
        broken = _call_fault(world, scenario, is_cancelling, is_lost)
    if is_lost and (ready.phase == "calling" or mutation != "lost_log_ends_in_the_old_epoch"):
        ready = _reopens(ready, view, scenario) if ready.phase != "idle" else ready
    label = f"{name}: folds{' (the log is lost)' if is_lost else ''} to {view.text!r}, {ready.phase} {ready.outcome}"
    yield label, _with_worker(world, number, ready, broken=broken)


def _call_fault(world: World, scenario: Scenario, is_cancelling: bool, is_lost: bool) -> str:
    """Why this provider call must not be: nobody pays for what is cancelled or, where the log can tell, finished."""
    if is_cancelling:
        return "a taker of a cancelling job calls the provider"
    is_finished = truth(prefix_view(scenario.prefix), world.log).view.state.finished is not None
    return "a finished answer is paid again" if is_finished and not is_lost else ""


def _folded(world: World, worker: Worker, scenario: Scenario) -> View:
    """The claim's base and the records after it, to the own AttemptOpened at F (all there are where none was sent)."""
    assert worker.acked is not None
    view, own = worker.acked, opened(worker.attempt)
    if scenario.mutation == "taker_folds_only_to_its_checkpoint":
        return view.after(own)
    first = max(worker.offset + 1, world.log_start)
    until = world.log.index(own) + 1 if own in world.log else len(world.log)
    for entry in world.log[first:until]:
        view = view.after(entry)
    return view


def _reopens(worker: Worker, view: View, scenario: Scenario) -> Worker:
    """The log no longer reaches back to the base: a new epoch opens with the checkpoint's text, and its end.

    (A restart drops that text anyway: its chunk is empty.) Also where it only has to end: live readers may be ahead of
    the checkpoint. Until that chunk is acked the worker's fold is nobody's truth and must not be checkpointed.
    """
    state = view.state
    epoch = _next_epoch(worker, view, scenario)
    text = view.text if scenario.prefill or worker.phase == "ending" else ""
    entry = chunk(worker.attempt, epoch, state.seq + 1, 0, text)
    if state.finished is None:
        return worker._replace(sent=_believes(view, entry), in_flight=(entry,), is_reopening=True)
    entries = (entry, finished(worker.attempt, epoch, state.end))
    return worker._replace(sent=_believes(view, entry), in_flight=entries, is_reopening=True)


def _next_epoch(worker: Worker, view: View, scenario: Scenario) -> int:
    return worker.attempt if scenario.epoch_is_attempt else view.state.epoch + 1


def _writes(worker: Worker, scenario: Scenario) -> Iterator[tuple[str, Worker]]:
    """The provider says something: a character, its end, or that it failed."""
    assert worker.sent is not None
    state = worker.sent.state
    if len(worker.in_flight) < scenario.n_in_flight:
        for entry in _chunks(worker, scenario):
            after = worker._replace(
                sent=_believes(worker.sent, entry), in_flight=(*worker.in_flight, entry), opens_epoch=False
            )
            yield f"sends {entry.label}", after
        if state.end >= scenario.n_chars and not worker.opens_epoch:
            entry = finished(worker.attempt, state.epoch, state.end)
            after = worker._replace(in_flight=(*worker.in_flight, entry), phase="ending", outcome="complete")
            yield f"sends {entry.label}", after
    if scenario.can_fail:
        yield "the provider fails", worker._replace(phase="ending", outcome="failed")


def _chunks(worker: Worker, scenario: Scenario) -> Iterator[Entry]:
    """The next chunk; texts of different attempts differ, so that no mixture goes unseen."""
    assert worker.sent is not None
    state = worker.sent.state
    start = 0 if worker.opens_epoch else state.end
    opens_epoch = worker.opens_epoch and scenario.mutation != "restart_without_new_epoch"
    epoch = _next_epoch(worker, worker.sent, scenario) if opens_epoch else state.epoch
    if start < scenario.n_chars:
        yield chunk(worker.attempt, epoch, state.seq + 1, start, chr(ord("a") + 4 * worker.attempt + start))
    if worker.opens_epoch:
        yield chunk(worker.attempt, epoch, state.seq + 1, 0, "")


def _checkpoints(world: World, worker: Worker, scenario: Scenario) -> Iterator[Change]:
    """Fenced by attempt; a miss stops the worker; RETURNING status finds a cancel whose event was missed."""
    row, mutation = world.row, scenario.mutation
    if row.attempt != worker.attempt and mutation != "checkpoint_unfenced":
        yield "misses the fence, stops", row, Worker(), world.log
        return
    if worker.is_reopening and mutation != "lost_log_checkpoints_at_once":
        return
    view = worker.sent if mutation == "checkpoint_of_sent_text" else worker.acked
    assert view is not None
    saved = row._replace(base=view, offset=worker.offset, is_leased=True)
    if saved == row or row.status in TERMINAL:
        return
    after = worker
    if row.status == "cancelling" and worker.phase == "calling":
        after = worker._replace(phase="ending", outcome="cancelled")
    yield f"checkpoints {view.text!r} at offset {worker.offset}", saved, after, world.log


def _final(world: World, worker: Worker, scenario: Scenario) -> Iterator[Change]:
    """`WHERE attempt = mine`: content, status, outbox row of StreamEnded; a `cancelling` row outweighs all else."""
    row = world.row
    if row.attempt != worker.attempt and scenario.mutation != "final_unfenced":
        yield "misses the fence at its end, stops", row, Worker(), world.log
        return
    assert worker.acked is not None
    assert worker.outcome != ""
    view = worker.sent if scenario.mutation == "final_before_acks" else worker.acked
    is_cancelled = row.status == "cancelling" and scenario.mutation != "final_ignores_cancel"
    status: TerminalStatus = "cancelled" if is_cancelled else worker.outcome
    base = prefix_view(scenario.prefix)  # of no more use: a terminal row is read by its final content
    done = row._replace(status=status, is_leased=False, base=base, offset=-1, final=view, outbox="pending")
    yield f"commits {status} {view.text if view else ''!r}", done, Worker(), world.log
    if scenario.mutation == "ended_published_outside_transaction":
        yield f"commits {status}, dies before it publishes", done._replace(outbox="empty"), Worker(), world.log


def _faults(world: World, number: int, scenario: Scenario) -> Iterator[Step]:
    """Crashes (a failed send is one too: the attempt ends, its records may still land), and leases that expire."""
    worker, row = world.workers[number], world.row
    is_holder = worker.attempt == row.attempt and row.status not in TERMINAL
    if is_holder and worker.attempt > scenario.n_faults:
        return
    yield f"attempt {worker.attempt}: crashes", _with_worker(world, number, Worker())
    if is_holder and row.is_leased:
        expired = row._replace(is_leased=False)
        yield f"attempt {worker.attempt}: is paused, its lease expires", world._replace(row=expired)


def _orphans(world: World) -> Iterator[Step]:
    """Records of the dead, in the order they were sent: they land late, or never."""
    for number, queue in enumerate(world.orphans):
        others = world.orphans[:number] + world.orphans[number + 1 :]
        left = (*others[:number], queue[1:], *others[number:]) if len(queue) > 1 else others
        yield f"a stale {queue[0].label} lands", world._replace(log=(*world.log, queue[0]), orphans=left)
        yield f"a stale {queue[0].label} and what follows it is lost", world._replace(orphans=others)
    row = world.row
    is_held = any(worker.attempt == row.attempt for worker in world.workers)
    if row.is_leased and not is_held:
        yield f"the lease of attempt {row.attempt} expires", world._replace(row=row._replace(is_leased=False))


def _publishes(world: World) -> Iterator[Step]:
    """The outbox: right after the commit, much later by the relay, or twice."""
    row = world.row
    if row.outbox not in ("pending", "unmarked") or row.final is None or row.status not in TERMINAL:
        return
    entry = ended(row.final.state.epoch, row.final.state.end, row.status)
    log = (*world.log, entry)
    yield f"{entry.label} is published", world._replace(log=log, row=row._replace(outbox="done"))
    if row.outbox == "pending":
        again = world._replace(log=log, row=row._replace(outbox="unmarked"))
        yield f"{entry.label} is published but not marked", again


def _requests(world: World, scenario: Scenario) -> Iterator[Step]:
    """Cancel and delete: the row lock decides. Only a job never claimed ends here, a running one is `cancelling`."""
    row = world.row
    if scenario.can_cancel and row.status in ("pending", "in_progress"):
        yield "cancel is requested", world._replace(row=_cancelled(row))
    if scenario.can_delete and not row.is_deleted:
        gone = row if row.status in TERMINAL else _cancelled(row)
        yield "the session is deleted", world._replace(row=gone._replace(is_deleted=True))


def _cancelled(row: Row) -> Row:
    if row.status == "pending":
        return row._replace(status="cancelled", final=row.base, outbox="pending")
    return row._replace(status="cancelling", was_cancelling=True)


def _with_worker(
    world: World,
    number: int,
    worker: Worker,
    *,
    row: Row | None = None,
    log: tuple[Entry, ...] | None = None,
    broken: str = "",
) -> World:
    """The world after a step of one worker; what a stopping worker had in flight becomes an orphan."""
    before = world.workers[number]
    orphans = world.orphans
    if worker.phase == "idle" and before.in_flight:
        orphans = (*orphans, before.in_flight)
    others = world.workers[:number] + world.workers[number + 1 :]
    workers = tuple(sorted((*others, worker), key=lambda each: each.attempt))
    return world._replace(
        row=world.row if row is None else row,
        workers=workers,
        log=world.log if log is None else log,
        orphans=orphans,
        broken=broken,
    )
