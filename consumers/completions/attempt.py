"""One attempt at a completion: take → context → stream → end (design §6). The reference is the model check."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from consumers.completions import settle as ending
from consumers.completions import store
from consumers.completions.charges import Charge, Meter
from consumers.completions.chunk_writer import ChunkWriter
from consumers.completions.context import JobContexts, Prepared
from consumers.completions.flush_ticks import FlushTicks
from consumers.completions.job import Base, Job
from consumers.completions.provider_call import ProviderCall, provider_call
from consumers.completions.retries import EXHAUSTED, Again, FallBack, GiveUp, Retries
from consumers.completions.stall import StallWatch
from consumers.completions.take import Taken, fold_log
from providers.ports import ChatModel, ChatRequest, Delta, Finished, Models, ProviderError
from retrieval.follow_up import ModelCall
from schemas.errors import Reject, Retry, Stop
from schemas.events import ErrorInfo, TokenUsage
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.postgres.unit_of_work import Database
from telemetry.metrics import LLM_ATTEMPTS, LLM_FAILURES, LLM_FIRST_TOKEN_SECONDS
from telemetry.tracing import CURRENT, begin

logger = logging.getLogger(__name__)

Interruption = Literal["cancelled", "lost", "shutdown", "unwritable"]

SETTLE_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Tools:
    """What every attempt of a worker shares."""

    bootstrap: str
    database: Database
    producer: LogProducer
    publisher: OutboxPublisher
    models: Models
    contexts: JobContexts
    meter: Meter
    ticks: FlushTicks
    lease_s: float
    retries: Retries


class Attempt:
    """Runs one claimed job to its end, or gives it back. `interrupt` may be called at any moment."""

    def __init__(self, job: Job, tools: Tools) -> None:
        self._span = (
            begin(
                "completions attempt",
                parent=job.traceparent,
                kind="consumer",
                attributes={"ragline.completion_id": str(job.id), "ragline.attempt": job.attempt},
            )
            if job.traceparent is not None
            else None
        )
        self.job = job = job if self._span is None else replace(job, traceparent=self._span.traceparent)
        self._tools = tools
        self._interruption: Interruption | None = None
        self._streaming: asyncio.Task[Finished] | None = None
        self._prepared: Prepared | None = None
        self._spent: list[ModelCall] = []
        self._model: ChatModel | None = None
        self._calls_provider = False
        self._start = job.base.state.end
        self._known_end = job.base.state.end
        self._stored: Base | None = job.base
        self.writer = ChunkWriter(tools.producer, job, tools.ticks, on_failed=lambda _: self.interrupt("unwritable"))

    def interrupt(self, reason: Interruption) -> None:
        """Ends the provider's stream now; the first reason counts, but a lost lease overrules all."""
        if self._interruption is None or reason == "lost":
            self._interruption = reason
        if self._streaming is not None:
            self._streaming.cancel()

    def checkpoint(self) -> store.Checkpoint:
        """What the next checkpoint should store of this attempt."""
        base = self.writer.acked_base()
        if base is not None and self._stored is not None and base.state is self._stored.state:
            base = None
        has_new_text = base is not None and base.state.end > self._known_end
        return store.Checkpoint(self.job, base, self._start, has_new_text)

    def stored(self, point: store.Checkpoint) -> None:
        """The checkpoint stands."""
        if point.base is not None:
            self._stored = point.base

    async def run(self) -> None:
        """Take, then whatever the log and the row say. Raises: Stop."""
        CURRENT.set(self.job.traceparent)
        try:
            await self._run()
        except Retry as retry:
            logger.warning("completion %s attempt %d: %s", self.job.id, self.job.attempt, retry)
            await self._give_back(retry.after_s, is_barren=self._calls_provider)
        finally:
            self.writer.close()
            if self._span is not None:
                self._span.end({"ragline.n_characters": self.writer.state.end - self._start})

    async def _run(self) -> None:
        taken = await self._take()
        if taken is None:
            return
        finished = self.writer.state.finished
        if finished is not None:
            await self._reopen(taken)
            charges = [Charge(finished.attempt, self.job.model or "unknown", finished.usage)]
            await self._settle("complete", finish_reason=finished.finish_reason, charges=charges)
        elif self.job.status == "cancelling" or self._interruption == "cancelled":
            await self._reopen(taken)
            await self._settle("cancelled")
        elif self.job.barren_attempts > self._tools.retries.max_attempts and not taken.has_new_text:
            await self._reopen(taken)
            await self._go_on_after(ProviderError(EXHAUSTED, "its worker was lost each time", retryable=True))
        else:
            await self._generate(taken)

    async def _take(self) -> Taken | None:
        """Fences, and folds the log up to the fence; None if a later attempt has come already."""
        opened = await self.writer.open()
        if self.job.is_first:
            return Taken(self.job.base, truncated=False, has_new_text=False, writer=0, start=self._start)
        taken = await fold_log(self._tools.bootstrap, self.job, opened)
        if taken is None:
            logger.info("completion %s: attempt %d came too late", self.job.id, self.job.attempt)
            return None
        await self._charge_predecessors(taken)  # before a checkpoint can hide who wrote last
        self.writer.continue_from(taken.base, must_restart=taken.truncated)
        self._start = self._known_end = taken.base.state.end
        return taken

    async def _reopen(self, taken: Taken, *, text: str | None = None) -> None:
        """After a lost log readers may be ahead of the checkpoint: a new epoch puts all of them on its text."""
        if taken.truncated or text is not None:
            await self.writer.restart(self.writer.text if text is None else text)
            await self.writer.drain()

    async def _charge_predecessors(self, taken: Taken) -> None:
        """A killed attempt cannot count its own tokens: its text tells (design §5.9).

        Those are the attempt before this one and the last that wrote: a taker may have died before it charged that.
        """
        if self.job.context is None:
            return
        state, text = taken.base.state, taken.base.text
        began = {self.job.attempt - 1: state.end, taken.writer: taken.start}
        async with self._tools.database.transaction() as work:
            records = []
            for attempt, start in sorted(began.items()):
                if state.finished is not None and state.finished.attempt == attempt:
                    usage = state.finished.usage
                else:
                    prompt = int(self.job.context.get("prompt_tokens", 0))
                    usage = self._tools.meter.counted(self._model_name(), prompt, text[:start], text[start:])
                if attempt > 0:
                    charge = Charge(attempt, self._model_name(), usage)
                    records += await ending.record_usage(work, self.job, charge)
        await self._tools.publisher.publish(records)

    async def _generate(self, taken: Taken) -> None:
        try:
            model = self._model = self._choose_model()
        except KeyError:
            message = f'model "{self.job.generation.model}" is not configured any more'
            await self._settle("failed", error=ErrorInfo(code="unknown_model", message=message))
            return
        try:
            prepared = self._prepared = await self._tools.contexts.prepare(self.job, model, self._spent)
        except Reject as reject:
            await self._go_on_after(ProviderError(reject.code, reject.detail, retryable=False))
            return
        except ProviderError as error:
            await self._go_on_after(error)
            return
        status = await self._begin_call(model, prepared.plan if self.job.context is None else None)
        if status is None:
            return
        if status == "cancelling":
            self.interrupt("cancelled")
        if self.writer.text and not model.can_prefill and self._interruption is None:
            await self._reopen(taken, text="")
            self._start = 0
        else:
            await self._reopen(taken)
        await self._stream(model, prepared)

    async def _begin_call(self, model: ChatModel, context: dict[str, object] | None) -> str | None:
        tools = self._tools
        begin_call = partial(store.begin_call, job=self.job, context=context, model=model.name, lease_s=tools.lease_s)
        if not (charges := self._query_charges()):
            return await begin_call(tools.database.fetchval_alone)
        records = []
        async with tools.database.transaction() as work:
            status = await begin_call(work.fetchval)
            for charge in charges:
                records += await ending.record_usage(work, self.job, charge)
        await tools.publisher.publish(records)
        return status

    async def _stream(self, model: ChatModel, prepared: Prepared) -> None:
        """Calls the provider and ends the attempt by how the call ended."""
        try:
            if self._interruption is None:
                self._calls_provider = True
                self._streaming = asyncio.create_task(self._consume(model, prepared), name=f"stream {self.job.id}")
                await asyncio.wait([self._streaming])
            if self._interruption is not None:
                await self._end_interrupted(self._interruption)
                return
            assert self._streaming is not None  # noqa: S101 - for the type checker: no interruption means it ran
            finished = self._streaming.result()
        except ProviderError as error:
            await self._end_failed(error)
            return
        except (Retry, Stop):
            raise
        except Exception as error:
            logger.exception("completion %s: the adapter of %s failed", self.job.id, model.name)
            await self._end_failed(ProviderError("adapter_failed", repr(error), retryable=True))
            return
        finally:
            if self._streaming is not None:
                self._streaming.cancel()
        usage = self._usage(prepared, finished)
        await self.writer.finish(finished.finish_reason, usage)
        charges = [Charge(self.job.attempt, self._model_name(), usage)]
        await self._settle("complete", finish_reason=finished.finish_reason, charges=charges)

    async def _consume(self, model: ChatModel, prepared: Prepared) -> Finished:
        request = replace(prepared.request, prefill=self.writer.text if model.can_prefill else "")
        with provider_call(model.name, self.job.traceparent) as call:
            return await self._read(model, replace(request, traceparent=call.traceparent), call)

    async def _read(self, model: ChatModel, request: ChatRequest, call: ProviderCall) -> Finished:
        stream = model.stream(request)
        began_s, has_text = time.perf_counter(), False
        with StallWatch(model.timeouts) as watch:
            async with aclosing(stream):  # type: ignore[type-var]
                async for item in stream:
                    if not isinstance(item, Delta):
                        call.finished = item
                        return item
                    watch.text_came()
                    if not has_text:
                        has_text = True
                        LLM_FIRST_TOKEN_SECONDS.labels(model.name).observe(time.perf_counter() - began_s)
                    await self.writer.write(item.text)
                    watch.next_text()
        raise ProviderError("protocol", f"{model.name} ended without saying so", retryable=True)

    async def _end_interrupted(self, reason: Interruption) -> None:
        match reason:
            case "cancelled":
                await self.writer.flush()
                await self.writer.drain()
                await self._settle("cancelled", charges=self._own_charges())
            case "shutdown":
                await self.writer.flush()
                await self.writer.drain()
                await self._give_back(0.0, is_barren=False)
            case "unwritable":
                await self._give_back(None, is_barren=True)
            case "lost":
                LLM_ATTEMPTS.labels(self._model_name(), "lost").inc()
                logger.warning("completion %s: attempt %d lost its lease", self.job.id, self.job.attempt)

    async def _end_failed(self, error: ProviderError) -> None:
        logger.warning("completion %s attempt %d: %s", self.job.id, self.job.attempt, error.code)
        await self.writer.flush()
        await self.writer.drain()
        await self._go_on_after(error)

    async def _go_on_after(self, error: ProviderError) -> None:
        """The model again, another model, or the end."""
        LLM_FAILURES.labels(self._model_name(), error.code).inc()
        has_new_text = self.writer.state.end > self._known_end
        step = self._tools.retries.next_step(
            error,
            n_barren=0 if has_new_text else self.job.barren_attempts,
            fallback=self._fallback(error),
            chance=random.random(),  # noqa: S311
        )
        match step:
            case Again():
                await self._give_back(step.after_s, is_barren=True)
            case FallBack():
                logger.warning("completion %s goes on with model %s", self.job.id, step.model)
                await self._give_back(0.0, is_barren=True, model=step.model)
            case GiveUp():
                await self._settle("failed", error=step.error, charges=self._own_charges())

    def _fallback(self, error: ProviderError) -> str | None:
        """The next model that could answer; for a context that is too long, one with more room."""
        for model in self._tools.models.fallbacks_after(self._model_name(), asked=self.job.generation.model):
            has_room = self._model is None or model.context_tokens > self._model.context_tokens
            if has_room or error.code != "context_too_long":
                return model.name
        return None

    async def _give_back(self, after_s: float | None, *, is_barren: bool, model: str | None = None) -> None:
        """Another attempt, by whoever comes first, continues from what the broker has acked."""
        if after_s is None:
            after_s = self._tools.retries.wait_s(self.job.barren_attempts, fallback=None, chance=random.random())  # noqa: S311
        try:
            async with self._tools.database.transaction() as work:
                point = self.checkpoint()
                if not await store.hand_over(work, point, after_s=after_s, is_barren=is_barren, model=model):
                    return
                records = []
                for charge in self._own_charges():
                    records += await ending.record_usage(work, self.job, charge)
            LLM_ATTEMPTS.labels(self._model_name(), "again" if is_barren else "handed_over").inc()
            await self._tools.publisher.publish(records)
        except Retry as error:
            logger.warning("completion %s: left to its lease: %s", self.job.id, error)

    async def _settle(
        self,
        status: Literal["complete", "failed", "cancelled"],
        *,
        finish_reason: str | None = None,
        error: ErrorInfo | None = None,
        charges: Sequence[Charge] = (),
    ) -> None:
        """Commits the end; while PostgreSQL is away nobody else can, so it is tried until it is back or fenced."""
        state, text = self.writer.state, self.writer.text
        citations = await self._tools.contexts.citations(self.job, self._prepared, text) if status == "complete" else ()
        outcome = ending.Outcome(
            status=status,
            base=Base(state, text, None),
            model=self._model_name() if self._calls_provider else self.job.model,
            citations=citations,
            finish_reason=finish_reason,
            error=error,
        )
        backoff_s = SETTLE_AGAIN_S
        while True:
            try:
                async with self._tools.database.transaction() as work:
                    records = await ending.settle(work, self.job, outcome, charges=charges)
            except Retry as retry:
                logger.warning("completion %s: not settled yet: %s", self.job.id, retry)
                if self._interruption in {"lost", "shutdown"}:
                    return
                await asyncio.sleep(backoff_s)
                backoff_s = min(2.0, backoff_s * 2)
            except ending.Fenced:
                return
            else:
                await self._tools.publisher.publish(records)
                return

    def _own_charges(self) -> list[Charge]:
        """What this attempt used, its answer counted by its text: the provider did not say."""
        charges = self._query_charges()
        if self._calls_provider and self._prepared is not None:
            charges.append(Charge(self.job.attempt, self._model_name(), self._counted(self._prepared)))
        return charges

    def _query_charges(self) -> list[Charge]:
        """What the auxiliary model used for this attempt: recorded with the context, or when the attempt ends."""
        return self._tools.meter.query_charges(self.job.attempt, self._spent)

    def _counted(self, prepared: Prepared) -> TokenUsage:
        before, written = self.writer.text[: self._start], self.writer.text[self._start :]
        return self._tools.meter.counted(self._model_name(), prepared.prompt_tokens, before, written)

    def _usage(self, prepared: Prepared, finished: Finished) -> TokenUsage:
        if finished.input_tokens is None or finished.output_tokens is None:
            return self._counted(prepared)
        return self._tools.meter.told(self._model_name(), finished.input_tokens, finished.output_tokens)

    def _choose_model(self) -> ChatModel:
        """The one that answered so far, as long as it is configured; else what was asked for. Raises: KeyError."""
        models, name = self._tools.models, self.job.model
        return models.by_name[name] if name in models.by_name else models.get(self.job.generation.model)

    def _model_name(self) -> str:
        if self._model is not None:
            return self._model.name
        return self.job.model or self.job.generation.model or self._tools.models.default.name
