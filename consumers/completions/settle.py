"""The final transaction of a completion: message, usage, events and StreamEnded, or nothing (design §6, End)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, reduce
from typing import TYPE_CHECKING

from consumers.completions.charges import Charge
from consumers.completions.job import Base, Job
from schemas.chunks import StreamEnded
from schemas.envelope import Envelope
from schemas.errors import Retry
from schemas.events import (
    Citation,
    CompletionCancelled,
    CompletionCompleted,
    CompletionFailed,
    ErrorInfo,
    TerminalStatus,
    TokenUsage,
    UsageRecorded,
)
from schemas.topics import CHAT_CHUNKS, CHAT_EVENTS, USAGE_EVENTS
from storage.postgres import outbox
from storage.postgres.outbox import OutboxRecord, Outgoing
from storage.postgres.unit_of_work import UnitOfWork
from telemetry.metrics import LLM_ATTEMPTS, LLM_COST_USD, LLM_TOKENS

if TYPE_CHECKING:
    import asyncpg

SOURCE = "completions"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a completion ends, as its holder sees it."""

    status: TerminalStatus
    base: Base
    model: str | None = None
    citations: Sequence[Citation] = ()
    finish_reason: str | None = None
    error: ErrorInfo | None = None


async def record_usage(work: UnitOfWork, job: Job, charge: Charge) -> list[OutboxRecord]:
    """Counts an attempt's tokens once, whoever comes first: the attempt itself or its taker."""
    usage = charge.usage
    records = await outbox.add(work, [_usage_event(job, charge)])
    if records:
        work.after_commit.append(partial(_count, charge.model, usage))
        await work.execute(
            "UPDATE completions SET input_tokens = input_tokens + $2, output_tokens = output_tokens + $3,"
            " cost_usd = CASE WHEN $4::float8 IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + $4 END,"
            " usage_estimated = usage_estimated OR $5 WHERE id = $1",
            job.id,
            usage.input_tokens,
            usage.output_tokens,
            usage.cost_usd,
            usage.estimated,
        )
    return records


def _usage_event(job: Job, charge: Charge) -> Outgoing:
    usage = charge.usage
    body = UsageRecorded(
        tenant_id=job.tenant_id,
        user_id=job.user_id,
        session_id=job.session_id,
        completion_id=job.id,
        attempt=charge.attempt,
        purpose=charge.purpose,
        model=charge.model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )
    return USAGE_EVENTS, replace(_caused(job, body), id=charge.event_id(job.id))


class Fenced(Exception):  # noqa: N818 - reads as the fact it is
    """The job is no longer this attempt's: nothing of the transaction may stand."""


async def settle(work: UnitOfWork, job: Job, outcome: Outcome, *, charges: Sequence[Charge]) -> list[OutboxRecord]:
    """Ends the completion; the records to publish after the commit.

    `charges` are what attempts used that ended themselves. The row decides: a completion that is `cancelling`
    ends cancelled, whatever the holder meant. In a deleted session only usage is kept, and live readers are told
    `cancelled`. Raises: Fenced; Retry if somebody counted a charge meanwhile.
    """
    session = await work.fetchrow(
        "UPDATE sessions SET version = version + 1, updated_at = now() WHERE id = $1 RETURNING version, deleted_at",
        job.session_id,
    )
    row = await _locked(work, job, charges)
    if row is None or session is None:
        raise Fenced
    if row["status"] == "cancelling" or session["deleted_at"] is not None:
        outcome = replace(outcome, status="cancelled", error=None, citations=())
        job = replace(job, cancelled_by=row["cancelled_by"])
    if session["deleted_at"] is not None:
        empty = replace(outcome.base.state, finished=None)
        outcome = replace(outcome, base=Base(empty, "", None))
    fresh = [charge for charge in charges if charge.event_id(job.id) not in row["counted"]]
    total = reduce(_plus, (charge.usage for charge in fresh), _counted(row))
    await _end_completion(work, job, outcome, total)
    told = total if total.input_tokens + total.output_tokens > 0 else None
    if session["deleted_at"] is None:
        await _fill_message(work, job, outcome, told)
    outgoing = [_usage_event(job, charge) for charge in fresh]
    records = await outbox.add(work, [*outgoing, *_told(job, outcome, told, session["version"])])
    if len(records) < len(outgoing) + 2:
        raise Retry("an attempt's usage was counted meanwhile")
    for charge in fresh:
        work.after_commit.append(partial(_count, charge.model, charge.usage))
    work.after_commit.append(LLM_ATTEMPTS.labels(outcome.model or "none", outcome.status).inc)
    return records


async def _locked(work: UnitOfWork, job: Job, charges: Sequence[Charge]) -> asyncpg.Record | None:
    """The completion as long as it is this attempt's, and which of the charges are in it already."""
    return await work.fetchrow(
        "SELECT status, cancelled_by, input_tokens, output_tokens, cost_usd, usage_estimated,"
        " ARRAY(SELECT o.id FROM outbox o WHERE o.id = ANY($3::uuid[])) AS counted FROM completions"
        " WHERE id = $1 AND attempt = $2 AND status IN ('in_progress', 'cancelling') FOR UPDATE",
        job.id,
        job.attempt,
        [charge.event_id(job.id) for charge in charges],
    )


def _counted(row: asyncpg.Record) -> TokenUsage:
    return TokenUsage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=row["cost_usd"],
        estimated=row["usage_estimated"],
    )


def _plus(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    costs = [usage.cost_usd for usage in (one, other) if usage.cost_usd is not None]
    return TokenUsage(
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_usd=sum(costs) if costs else None,
        estimated=one.estimated or other.estimated,
    )


def _count(model: str, usage: TokenUsage) -> None:
    LLM_TOKENS.labels(model, "input").inc(usage.input_tokens)
    LLM_TOKENS.labels(model, "output").inc(usage.output_tokens)
    LLM_COST_USD.labels(model).inc(usage.cost_usd or 0.0)


async def _end_completion(work: UnitOfWork, job: Job, outcome: Outcome, total: TokenUsage) -> None:
    state = outcome.base.state
    await work.execute(
        "UPDATE completions SET status = $3, finished_at = now(), lease_owner = NULL, lease_until = NULL,"
        " checkpoint_attempt = $2, checkpoint_epoch = $4, checkpoint_end = $5, checkpoint_seq = $6, chunk_ends = $7,"
        " checkpoint_text = $8, finish_reason = $9, error_code = $10, error_message = $11,"
        " model = coalesce($12, model), input_tokens = $13, output_tokens = $14, cost_usd = $15, usage_estimated = $16"
        " WHERE id = $1",
        job.id,
        job.attempt,
        outcome.status,
        state.epoch,
        state.end,
        state.seq,
        list(state.chunk_ends),
        "" if outcome.status == "complete" else outcome.base.text,
        outcome.finish_reason,
        outcome.error.code if outcome.error else None,
        outcome.error.message if outcome.error else None,
        outcome.model,
        total.input_tokens,
        total.output_tokens,
        total.cost_usd,
        total.estimated,
    )


async def _fill_message(work: UnitOfWork, job: Job, outcome: Outcome, usage: TokenUsage | None) -> None:
    complete = outcome.status == "complete"
    await work.execute(
        "UPDATE messages SET status = $2, content = $3, partial_content = $4, error_code = $5, error_message = $6,"
        " citations = $7, model = $8, usage = $9, updated_at = now() WHERE id = $1",
        job.message_id,
        outcome.status,
        outcome.base.text if complete else "",
        None if complete else outcome.base.text,
        outcome.error.code if outcome.error else None,
        outcome.error.message if outcome.error else None,
        [citation.model_dump(mode="json") for citation in outcome.citations],
        outcome.model,
        usage.model_dump(mode="json") if usage else None,
    )


def _told(job: Job, outcome: Outcome, usage: TokenUsage | None, version: int) -> list[Outgoing]:
    ended = StreamEnded(
        completion_id=job.id,
        message_id=job.message_id,
        epoch=outcome.base.state.epoch,
        end=outcome.base.state.end,
        status=outcome.status,
        model=outcome.model,
        finish_reason=outcome.finish_reason,
        citations=tuple(outcome.citations),
        usage=usage,
        error=outcome.error,
    )
    event = _caused(job, _event(job, outcome, usage, version))
    return [(CHAT_EVENTS, event), (CHAT_CHUNKS, _caused(job, ended))]


def _event(
    job: Job, outcome: Outcome, usage: TokenUsage | None, version: int
) -> CompletionCompleted | CompletionFailed | CompletionCancelled:
    ended = {
        "session_id": job.session_id,
        "session_version": version,
        "completion_id": job.id,
        "message_id": job.message_id,
        "attempt": job.attempt,
        "model": outcome.model,
        "usage": usage,
    }
    text = outcome.base.text
    if outcome.status == "complete":
        reason = outcome.finish_reason or "stop"
        return CompletionCompleted(**ended, content=text, citations=tuple(outcome.citations), finish_reason=reason)
    if outcome.status == "cancelled":
        return CompletionCancelled(**ended, partial_content=text)
    error = outcome.error or ErrorInfo(code="unknown", message="the answer could not be finished")
    return CompletionFailed(**ended, partial_content=text, error=error)


def _caused(
    job: Job, body: CompletionCompleted | CompletionFailed | CompletionCancelled | StreamEnded | UsageRecorded
) -> Envelope:
    cancelled = isinstance(body, CompletionCancelled) and job.cancelled_by is not None
    return Envelope(
        body=body,
        tenant_id=job.tenant_id,
        user_id=job.user_id,
        source=SOURCE,
        time=datetime.now(UTC),
        correlation_id=job.correlation_id,
        causation_id=job.cancelled_by if cancelled else job.requested_by,
        traceparent=job.traceparent,
    )
