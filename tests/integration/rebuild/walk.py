"""Conversations at random through the consumers' own code: commands in batches, claims, answers that end somehow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from uuid import UUID

from consumers.completions.charges import Charge
from consumers.completions.claims import claim
from consumers.completions.job import Base, Job
from consumers.completions.settle import Outcome, settle
from consumers.tenant_limit import TenantLimit
from consumers.transcript.subscriber import transcript
from schemas.commands import (
    CancelCompletion,
    CreateSession,
    DeleteSession,
    EditMessage,
    PostMessage,
    RegenerateMessage,
    RenameSession,
    ResumeMessage,
    SessionCommand,
    SetFavorite,
)
from schemas.envelope import Envelope
from schemas.events import Citation, ErrorInfo, TokenUsage
from schemas.ids import new_id
from storage.postgres import outbox
from storage.postgres.unit_of_work import Database

USER = new_id()
CITED = Citation(document_id=UUID(int=1), version=1, page=None, start=0, end=2, quote="“ü")
USED = TokenUsage(input_tokens=7, output_tokens=3, cost_usd=0.000123, estimated=False)


class Walk:
    """One tenant's sessions; the same seed walks the same way."""

    def __init__(self, database: Database, *, seed: int, n_sessions: int = 5) -> None:
        self.tenant_id = new_id()
        self._database = database
        self._random = Random(seed)
        self._sessions = [new_id() for _ in range(n_sessions)]
        self._running: list[Job] = []

    async def walk(self, n_steps: int) -> None:
        """Creates the sessions and goes so many steps. The last session is never deleted."""
        await self._take([CreateSession(session_id=id_) for id_ in self._sessions])
        for _ in range(n_steps):
            await self._random.choice([self._batch, self._batch, self._claim, self._settle, self._settle])()

    async def finish(self) -> None:
        """Ends all that is open."""
        while await self._claim() or self._running:
            await self._settle()

    async def _batch(self) -> int:
        commands = [await self._command() for _ in range(self._random.randint(1, 4))]
        await self._take(commands)
        return len(commands)

    async def _take(self, bodies: Sequence[SessionCommand]) -> None:
        handle = transcript().handle
        assert handle is not None
        commands = [Envelope(body=body, tenant_id=self.tenant_id, user_id=USER, source="test") for body in bodies]
        async with self._database.transaction() as work:
            records = await outbox.add(work, await handle(work, commands))
            await outbox.mark_published(work, [record.id for record in records])

    async def _command(self) -> SessionCommand:
        id_ = self._random.choice(self._sessions)
        user, ai, completion = [await self._known(sql, id_) for sql in _KNOWN]
        fresh = {"message_id": new_id(), "ai_message_id": new_id(), "completion_id": new_id()}
        content = self._random.choice(["Hello?", "Größer\n“quoted” \\ 🦊", "x" * 300])
        post: SessionCommand = PostMessage(session_id=id_, content=content, **fresh)
        others: list[SessionCommand] = [
            RenameSession(session_id=id_, name=content[:20]),
            SetFavorite(session_id=id_, is_favorite=self._random.random() < 0.5),
            ResumeMessage(session_id=id_, completion_id=new_id()),
            ResumeMessage(session_id=id_, completion_id=new_id()),
            CancelCompletion(session_id=id_, completion_id=completion),
            CancelCompletion(session_id=id_, completion_id=completion),
            EditMessage(session_id=id_, edited_id=user, content="better", **fresh),
            RegenerateMessage(
                session_id=id_, regenerated_id=ai, ai_message_id=new_id(), completion_id=fresh["completion_id"]
            ),
        ]
        if id_ != self._sessions[-1] and self._random.random() < 0.03:
            return DeleteSession(session_id=id_)
        return self._random.choice([post, post, post, *others])

    async def _known(self, sql: str, session_id: UUID) -> UUID:
        async with self._database.transaction() as work:
            rows = await work.fetch(sql, session_id)
        return self._random.choice([row["id"] for row in rows]) if rows else new_id()

    async def _claim(self) -> int:
        jobs = await claim(
            self._database, owner="test", lease_s=600, limit=2, running=TenantLimit(100), may_take_over=lambda: False
        )
        self._running += jobs
        return len(jobs)

    async def _settle(self) -> int:
        if not self._running:
            return 0
        job = self._running.pop(self._random.randrange(len(self._running)))
        text = job.base.text + self._random.choice(["", "text ", "🦊 ü"])
        state = replace(job.base.state, attempt=job.attempt, end=len(text))
        base = Base(state, text, None)
        outcome = self._random.choice(
            [
                Outcome("complete", base, "test", (CITED,), "stop"),
                Outcome("failed", base, "test", error=ErrorInfo(code="overloaded", message="It is “away”.")),
                Outcome("failed", base, error=ErrorInfo(code="attempts_exhausted", message="No.")),
                Outcome("cancelled", base, "test"),
            ]
        )
        async with self._database.transaction() as work:
            records = await settle(
                work, job, outcome, charges=[Charge(job.attempt, outcome.model, USED)] if outcome.model else []
            )
            await outbox.mark_published(work, [record.id for record in records])
        return 1


_KNOWN = (
    "SELECT id FROM messages WHERE session_id = $1 AND sender = 'user' ORDER BY id DESC LIMIT 4",
    "SELECT id FROM messages WHERE session_id = $1 AND sender = 'ai' ORDER BY id DESC LIMIT 4",
    "SELECT id FROM completions WHERE session_id = $1 ORDER BY queue_no DESC LIMIT 3",
)
