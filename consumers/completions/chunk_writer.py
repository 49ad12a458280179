"""Writes one attempt's text: the first at once, then with the worker's bursts, one encode per chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.completions.flush_ticks import FlushTicks
from consumers.completions.job import Base, Job
from schemas.chunks import AttemptFinished, AttemptOpened, ChunkRecord, CompletionChunk
from schemas.envelope import Envelope, own_headers
from schemas.errors import Retry
from schemas.events import TokenUsage
from schemas.ids import new_id_text
from schemas.stream_fold import FoldState, accept
from schemas.topics import CHAT_CHUNKS
from storage.log.producer import Ack, LogProducer, all_acked


@dataclass(slots=True)
class Acked:
    """The newest state that the broker has, and the offset after it."""

    state: FoldState
    offset: int | None


class ChunkWriter:
    """The only writer of its attempt. `state` is the fold of what was sent, `acked` of what the broker has.

    Positions count code points of the whole text of an epoch. `on_failed` hears once of a send that failed:
    the attempt must end, for the order of what follows is no longer sure.
    """

    def __init__(
        self, producer: LogProducer, job: Job, ticks: FlushTicks, *, on_failed: Callable[[BaseException], None]
    ) -> None:
        self._producer = producer
        self._job = job
        self._ticks = ticks
        self._on_failed = on_failed
        self._buffer: list[str] = []
        self._sending = asyncio.Lock()
        self._has_flushed = False
        self._shared_headers = Envelope(
            body=_opening(job),
            tenant_id=job.tenant_id,
            user_id=job.user_id,
            source="completions",
            correlation_id=job.correlation_id,
            traceparent=job.traceparent,
        ).shared_headers()
        self._last_ack: asyncio.Future[Ack] | None = None
        self._failure: BaseException | None = None
        self._epoch_to_leave: int | None = None
        self._has_folded = job.is_first
        self.state = job.base.state
        self.text = job.base.text
        self.acked = Acked(job.base.state, job.base.offset)

    async def open(self) -> asyncio.Future[Ack]:
        """Fences: from this record on only this attempt counts."""
        return await self._send(_opening(self._job))

    def continue_from(self, base: Base, *, must_restart: bool) -> None:
        """What the fold found in the log before this attempt.

        `must_restart`: the log had a gap, so nothing of this may be checkpointed before the new epoch is acked.
        """
        self.state, self.text = base.state, base.text
        self.acked = Acked(base.state, base.offset)
        self._epoch_to_leave = base.state.epoch if must_restart else None
        self._has_folded = True

    async def restart(self, text: str) -> None:
        """Opens this attempt's own epoch, once; its first chunk is `text` (it may be empty)."""
        await self._chunk(text, restart=True)

    async def write(self, text: str) -> None:
        """Takes text that follows; waits while what came before cannot be handed over. Raises: Retry."""
        if self._failure is not None:
            raise Retry(f"the stream cannot be written: {self._failure!r}")
        self._buffer.append(text)
        if self._has_flushed and not self._sending.locked():
            self._ticks.flush_soon(self._flush_quietly)
        else:
            await self.flush()

    async def flush(self) -> None:
        """Sends what was taken."""
        async with self._sending:
            if self._buffer:
                text = "".join(self._buffer)
                self._buffer.clear()
                self._has_flushed = True
                await self._chunk(text, restart=False)

    async def finish(self, reason: str, usage: TokenUsage) -> None:
        """Says that the provider ended, and waits until the broker has everything. Raises: Retry."""
        await self.flush()
        await self._send(
            AttemptFinished(
                completion_id=self._job.id,
                attempt=self._job.attempt,
                epoch=self.state.epoch,
                end=self.state.end,
                finish_reason=reason,
                usage=usage,
            )
        )
        await self.drain()

    async def drain(self) -> None:
        """Waits for every ack; one connection keeps their order, so the last stands for all. Raises: Retry."""
        if self._last_ack is not None:
            await all_acked([self._last_ack])
        if self._failure is not None:
            raise Retry(f"the stream was not written: {self._failure!r}")

    def acked_base(self) -> Base | None:
        """A checkpoint of what the broker has; None before the fold, and while a restart is due or on its way.

        Before the fold the fence is acked, but what lies between base and fence is not known: its offset would skip it.
        """
        if not self._has_folded:
            return None
        if self.acked.state.epoch != self.state.epoch or self.acked.state.epoch == self._epoch_to_leave:
            return None
        return Base(self.acked.state, self.text[: self.acked.state.end], self.acked.offset)

    def close(self) -> None:
        """Sends nothing more."""
        self._buffer.clear()

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - the burst's border: told to the attempt, which ends
            self._fail(error)

    async def _chunk(self, text: str, *, restart: bool) -> None:
        state = self.state
        epoch, start = (self._job.attempt, 0) if restart else (state.epoch, state.end)
        self.text = text if restart else self.text + text
        await self._send(
            CompletionChunk(
                completion_id=self._job.id,
                attempt=self._job.attempt,
                epoch=epoch,
                seq=state.seq + 1,
                start=start,
                end=start + len(text),
                text=text,
            )
        )

    async def _send(self, record: ChunkRecord) -> asyncio.Future[Ack]:
        state = self.state = accept(self.state, record)
        headers = [*self._shared_headers, *own_headers(new_id_text(), record.ce_type, datetime.now(UTC))]
        future = await self._producer.send_body(CHAT_CHUNKS, record, headers)
        self._last_ack = future
        future.add_done_callback(lambda done: self._acked(done, state))
        return future

    def _acked(self, done: asyncio.Future[Ack], state: FoldState) -> None:
        if done.cancelled():
            self._fail(Retry("the producer was closed"))
        elif (error := done.exception()) is not None:
            self._fail(error)
        elif self._failure is None:
            self.acked = Acked(state, done.result().offset + 1)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self.close()
            self._on_failed(error)


def _opening(job: Job) -> AttemptOpened:
    return AttemptOpened(completion_id=job.id, attempt=job.attempt)
