"""What a taker finds in the log: the fold from the checkpoint to its own fence (design §6, Take)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from consumers.completions.job import Base, Job
from schemas.chunk_log import kind_of, read_chunk
from schemas.chunks import CompletionChunk
from schemas.stream_fold import accept
from schemas.topics import CHAT_CHUNKS
from storage.log.producer import Ack, all_acked
from storage.log.tail import LogTruncated, TopicPartition, read_range

LOOKBACK_S = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Where the attempt goes on. `truncated`: the log no longer reached back to the checkpoint.

    `has_new_text`: there is more than the checkpoint knew. `writer` is the last attempt that wrote (0: none did), and
    `start` is where it began.
    """

    base: Base
    truncated: bool
    has_new_text: bool
    writer: int
    start: int


async def fold_log(bootstrap: str, job: Job, opened: asyncio.Future[Ack]) -> Taken | None:
    """Folds up to and including the taker's own AttemptOpened; None if that is not current there. Raises: Retry."""
    await all_acked([opened])
    ack = opened.result()
    state, text = job.base.state, job.base.text
    writer, start = job.base.state.attempt, job.attempt_start
    truncated = False
    key = str(job.id).encode()
    since_s = job.created_at.timestamp() - LOOKBACK_S
    partition = TopicPartition(CHAT_CHUNKS.name, ack.partition)
    try:
        async for record in read_range(
            bootstrap, partition, job.base.offset, ack.offset + 1, since_s=since_s, whole=True
        ):
            if record.key != key:
                continue
            chunk = read_chunk(kind_of(record.headers), record.value)
            after = accept(state, chunk) if chunk is not None else state
            if after is not state and isinstance(chunk, CompletionChunk):
                restarted = after.epoch != state.epoch
                text = chunk.text if restarted else text + chunk.text
                if restarted or chunk.attempt != writer:
                    writer, start = chunk.attempt, chunk.start
            state = after
    except LogTruncated:
        truncated = True
        state, text = job.base.state, job.base.text
    if state.attempt > job.attempt:
        return None
    if truncated:
        state = replace(state, attempt=job.attempt)
    base = Base(state, text, ack.offset + 1)
    has_new_text = state.end > job.base.state.end
    return Taken(base, truncated, has_new_text, writer, min(start, state.end))
