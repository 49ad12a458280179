"""How the runner ends, whatever it is at."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.topics import CHAT_COMMANDS, CHAT_EVENTS
from storage.log.batch_runner import BatchRunner, Subscription

PARTITION = TopicPartition(CHAT_COMMANDS.name, 0)


class Committing:
    """A consumer whose commit ends when the test says so."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}

    async def commit(self, _: object) -> None:
        self.has_begun.set()
        await self.may_end.wait()


@pytest.mark.parametrize("n_turns", range(6))
async def test_a_commit_that_ends_as_it_is_cancelled_keeps_nobody(n_turns: int) -> None:
    """A cancellation that is swallowed there let `stop` wait for ever."""
    subscription = Subscription(CHAT_COMMANDS, "test", None, rejects_to=CHAT_EVENTS)
    nothing: Any = None
    runner = BatchRunner(subscription, database=nothing, publisher=nothing, dead_letters=nothing)
    runner._done[PARTITION] = 1
    runner._commit_wanted.set()
    consumer: Any = Committing()
    committing = asyncio.create_task(runner._commit_in_background(consumer))
    await consumer.has_begun.wait()
    consumer.may_end.set()
    for _ in range(n_turns):
        await asyncio.sleep(0)
    committing.cancel()
    ended, _ = await asyncio.wait([committing], timeout=2)
    committing.cancel()
    assert ended
