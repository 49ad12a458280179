"""The regular shape of a consumer: load → decide in log order → save, inside the runner's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from consumers.tenant_limit import WaitingLimit
from schemas.envelope import Envelope
from schemas.errors import Reject
from schemas.records import Body
from schemas.rejections import rejection
from schemas.topics import Topic
from storage.postgres.outbox import Outgoing
from storage.postgres.unit_of_work import UnitOfWork

StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact, and the command that it followed from."""

    body: Body
    command: Envelope


@dataclass(frozen=True)
class Deciding(Generic[StateT]):
    """A handler made of four parts; `StateT` is what is known of one aggregate.

    `load` answers with the states of the commands' aggregates, `save` stores what followed: both one
    statement a table, whatever the size of the batch. `topic_of` says where a fact is published. `waiting` is about
    the whole tenant: what would go beyond it is refused though the aggregate's own rules allow it.
    """

    source: str
    key_of: Callable[[Envelope], object]
    load: Callable[[UnitOfWork, Sequence[Envelope]], Awaitable[dict[object, StateT]]]
    decide: Callable[[StateT | None, Envelope, datetime], list[Body]]
    evolve: Callable[[StateT | None, Body, Envelope], StateT]
    save: Callable[[UnitOfWork, dict[object, StateT], Sequence[Fact]], Awaitable[None]]
    topic_of: Callable[[Body], Topic]
    waiting: WaitingLimit[StateT]

    async def handle(self, work: UnitOfWork, commands: Sequence[Envelope]) -> list[Outgoing]:
        """Decides every command in log order; a rejected one yields its CommandRejected and nothing else."""
        states = await self.load(work, commands)
        room = await self.waiting.room(work, commands)
        now = await work.now()
        facts: list[Fact] = []
        outgoing: list[Outgoing] = []
        for command in commands:
            key = self.key_of(command)
            try:
                bodies = self.decide(states.get(key), command, now)
                room.take(command, states.get(key), bodies)
            except Reject as reject:
                event = rejection(command, reject, source=self.source, now=now)
                outgoing.append((self.topic_of(event.body), event))
                continue
            for body in bodies:
                states[key] = self.evolve(states.get(key), body, command)
                facts.append(Fact(body, command))
                outgoing.append((self.topic_of(body), command.caused(body, source=self.source, time=now)))
        await self.save(work, states, facts)
        return outgoing
