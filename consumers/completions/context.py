"""What a completion's model will see: built once, stored, and the same for every attempt (design §6, Context)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.completions.job import Job
from providers.ports import ChatModel, ChatRequest
from retrieval.citations import cite
from retrieval.context import ContextPlan, recalled
from retrieval.follow_up import ModelCall
from retrieval.preparing import MAX_HISTORY, Contexts, Conversation
from retrieval.search import PassageView
from schemas.errors import Reject
from schemas.events import Citation
from storage.postgres.conversations import Library, library_of, path_to
from storage.postgres.unit_of_work import Database

NOT_READ = Library(has_passages=False, instructions=())
"""A stored context names its passages."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The request without a prefill, the plan that rebuilds it, and what was offered, by marker."""

    request: ChatRequest
    plan: dict[str, object]
    offered: Sequence[PassageView]
    prompt_tokens: int


class JobContexts:
    """Builds and rebuilds the contexts of jobs."""

    def __init__(self, database: Database, contexts: Contexts) -> None:
        self._database = database
        self._contexts = contexts

    async def prepare(self, job: Job, model: ChatModel, spent: list[ModelCall]) -> Prepared:
        """The stored context again, or a new one; what other models used for it is added to `spent`.

        Raises: Retry; Reject if the question does not fit the model.
        """
        conversation = await self._conversation(job)
        if job.context is not None:
            plan = ContextPlan.from_json(job.context)
            assembled = await self._contexts.again(
                job.tenant_id, conversation, plan, model=model, generation=job.generation
            )
        else:
            prepared = await self._contexts.prepare(
                job.tenant_id, conversation, model=model, generation=job.generation, spent=spent
            )
            assembled = prepared.assembled
        return Prepared(assembled.request, assembled.plan.to_json(), assembled.offered, assembled.prompt_tokens)

    async def _conversation(self, job: Job) -> Conversation:
        """The question, the turns before it along its path, and the library for a new context."""
        async with self._database.transaction(job.tenant_id) as work:
            turns = await path_to(work, job.session_id, job.parent_id, limit=MAX_HISTORY + 1)
            library = await library_of(work) if job.context is None else NOT_READ
        if not turns:
            raise Reject("message_not_found", 404, "the question is gone")
        *before, question = turns
        return Conversation(question.content, [turn for turn in before if turn.content], library)

    async def citations(self, job: Job, prepared: Prepared | None, text: str) -> tuple[Citation, ...]:
        """What the text cites; a taker that never prepared loads what was offered. Raises: Retry."""
        if prepared is not None:
            offered: Sequence[PassageView] = prepared.offered
        elif job.context is not None:
            plan = ContextPlan.from_json(job.context)
            found, _ = await self._contexts.recall(job.tenant_id, plan)
            offered = recalled(plan.passages, found)
        else:
            return ()
        return tuple(cite(text, offered))
