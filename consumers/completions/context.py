"""What a completion's model will see: built once, stored, and the same for every attempt (design §6, Context)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.completions.job import Job
from providers.ports import ChatModel, ChatRequest, TokenCounter
from retrieval.citations import cite
from retrieval.context import ContextPlan, HistoryTurn, assemble, recalled
from retrieval.search import PassageView, Searcher
from schemas.errors import Reject
from schemas.events import Citation
from storage.postgres.passages import opening_of, passages_by_id
from storage.postgres.unit_of_work import Database

OFFERED = 12
OPENING = 2
MAX_HISTORY = 100

_PATH = """
WITH RECURSIVE path AS (
  SELECT m.*, 0 AS depth FROM messages m WHERE m.id = $1 AND m.session_id = $2
  UNION ALL
  SELECT m.*, p.depth + 1 FROM messages m JOIN path p ON m.id = p.parent_id WHERE p.depth < $3
)
SELECT id, sender, status, content, partial_content,
  EXISTS (SELECT 1 FROM documents WHERE tenant_id = $4 AND deleted_at IS NULL AND active_version IS NOT NULL)
  AS has_passages
FROM path ORDER BY depth DESC
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The request without a prefill, the plan that rebuilds it, and what was offered, by marker."""

    request: ChatRequest
    plan: dict[str, object]
    offered: Sequence[PassageView]
    prompt_tokens: int


class Contexts:
    """Builds and rebuilds contexts over PostgreSQL and the index."""

    def __init__(self, database: Database, searcher: Searcher, tokens: TokenCounter) -> None:
        self._database = database
        self._searcher = searcher
        self._tokens = tokens

    async def prepare(self, job: Job, model: ChatModel) -> Prepared:
        """The stored context again, or a new one. Raises: Retry; Reject if the question does not fit the model."""
        question, history, has_passages = await self._conversation(job)
        plan: ContextPlan | None = None
        offered: Sequence[PassageView] = ()
        if job.context is not None:
            plan = ContextPlan.from_json(job.context)
            async with self._database.transaction(job.tenant_id) as work:
                offered = await passages_by_id(work, [passage.id for passage in plan.passages])
        elif has_passages:
            offered = await self._found(job, question)
        assembled = assemble(
            question, history, offered, model=model, tokens=self._tokens, plan=plan, generation=job.generation
        )
        return Prepared(
            request=assembled.request,
            plan=assembled.plan.to_json(),
            offered=assembled.offered,
            prompt_tokens=assembled.prompt_tokens,
        )

    async def _found(self, job: Job, question: str) -> list[PassageView]:
        """The best passages, and last the opening of the best document: title and summary say what it is about."""
        items = await self._searcher.search(
            job.tenant_id, question, limit=OFFERED, document_ids=job.generation.document_ids
        )
        found = [item.passage for item in items]
        if not found:
            return found
        async with self._database.transaction(job.tenant_id) as work:
            opening = await opening_of(work, found[0].document_id, n_passages=OPENING)
        known = {passage.id for passage in found}
        return found + [passage for passage in opening if passage.id not in known]

    async def _conversation(self, job: Job) -> tuple[str, list[HistoryTurn], bool]:
        """The question, the turns before it along its path (oldest first), and whether a search can find anything."""
        async with self._database.transaction(job.tenant_id) as work:
            rows = await work.fetch(_PATH, job.parent_id, job.session_id, MAX_HISTORY, job.tenant_id)
        if not rows:
            raise Reject("message_not_found", 404, "the question is gone")
        *before, question = rows
        history = [
            HistoryTurn(row["sender"], row["content"] or row["partial_content"] or "", row["status"]) for row in before
        ]
        return question["content"], [turn for turn in history if turn.content], question["has_passages"]

    async def citations(self, job: Job, prepared: Prepared | None, text: str) -> tuple[Citation, ...]:
        """What the text cites; a taker that never prepared loads what was offered. Raises: Retry."""
        if prepared is not None:
            offered: Sequence[PassageView] = prepared.offered
        elif job.context is not None:
            plan = ContextPlan.from_json(job.context)
            async with self._database.transaction(job.tenant_id) as work:
                found = await passages_by_id(work, [passage.id for passage in plan.passages])
            offered = recalled(plan, found)
        else:
            return ()
        return tuple(cite(text, offered))
