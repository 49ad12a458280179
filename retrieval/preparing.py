"""What a model will see of a conversation: query, search, choice. Completions and the preview share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from providers.ports import ChatModel, TokenCounter
from retrieval.context import Assembled, ContextPlan, Parts, assemble
from retrieval.diversity import distinct, spread
from retrieval.follow_up import ModelCall, QueryRewriter, StandaloneQuery, standalone_query
from retrieval.search import Found, ScoredPassage, Searcher
from retrieval.steps import Steps
from schemas.commands import Generation
from storage.ports import DocumentFilter, PassageView
from storage.postgres.conversations import Library, StoredTurn
from storage.postgres.passages import CUSTOM_INSTRUCTIONS, opening_of, passages_by_id
from storage.postgres.unit_of_work import Database

MAX_HISTORY = 100
"""Turns that are looked at."""
OFFERED = 12
OPENING = 2
CURATED = "curated_dataset"
CURATED_BONUS = 0.15
"""What a curated document's passage is moved up by, on a scale where the best passage has 1."""
_LOOKED_AT = 24
"""More than are offered, so that there is a choice."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A question, what was said before it (oldest first), and what there is to answer it from."""

    question: str
    history: Sequence[StoredTurn]
    library: Library


@dataclass(frozen=True, slots=True)
class Weighed:
    """A passage that was found: its relevance between 0 and 1 (with a bonus up to 1.15), and whether it is offered."""

    item: ScoredPassage
    relevance: float
    is_curated: bool
    is_offered: bool


@dataclass(frozen=True, slots=True)
class Preparation:
    """A context and how it came about.

    `weighed` are the passages found, best first, `opening` those of the best document that were added,
    `instructions` the tenant's own; what of them fits is in `assembled`.
    """

    assembled: Assembled
    query: StandaloneQuery
    found: Found
    weighed: tuple[Weighed, ...]
    opening: tuple[PassageView, ...]
    instructions: tuple[PassageView, ...]
    steps: Steps

    @property
    def offered(self) -> tuple[PassageView, ...]:
        """The passages that were weighed against the window, in the order of `Budget.passages`."""
        return (*(one.item.passage for one in self.weighed if one.is_offered), *self.opening)


class Contexts:
    """Prepares contexts over PostgreSQL and the index. `rewriter` asks the auxiliary model, if there is one."""

    def __init__(
        self, database: Database, searcher: Searcher, tokens: TokenCounter, *, rewriter: QueryRewriter | None = None
    ) -> None:
        self._database = database
        self._searcher = searcher
        self._tokens = tokens
        self._rewriter = rewriter

    async def prepare(
        self,
        tenant_id: UUID,
        conversation: Conversation,
        *,
        model: ChatModel,
        generation: Generation,
        steps: Steps | None = None,
        spent: list[ModelCall] | None = None,
    ) -> Preparation:
        """A new context; what other models used for it is added to `spent`, whatever follows.

        Raises: Retry; Reject if the question does not fit the model.
        """
        steps, library = steps or Steps(), conversation.library
        query, found = StandaloneQuery(conversation.question, "question"), Found()
        if library.has_passages:
            with steps.step("rewrite"):
                query = await standalone_query(conversation.question, conversation.history, self._rewriter, spent)
            # the instructions take no passage's place: they are told apart
            others = (CUSTOM_INSTRUCTIONS,) if library.instructions else ()
            found = await self._searcher.find(
                tenant_id,
                query.text,
                limit=_LOOKED_AT,
                documents=DocumentFilter(document_ids=generation.document_ids, not_types=others),
                rerank=True,
                steps=steps,
            )
        with steps.step("choose"):
            weighed = _weighed(found.items)
            offered = [one.item.passage for one in weighed if one.is_offered]
            opening = await self._opening(tenant_id, offered)
        own = library.instructions
        parts = Parts(conversation.question, conversation.history, [*offered, *opening], own, query.text)
        with steps.step("assemble"):
            assembled = assemble(parts, model=model, tokens=self._tokens, plan=None, generation=generation)
        return Preparation(assembled, query, found, weighed, tuple(opening), own, steps)

    async def again(
        self,
        tenant_id: UUID,
        conversation: Conversation,
        plan: ContextPlan,
        *,
        model: ChatModel,
        generation: Generation,
    ) -> Assembled:
        """The context that `plan` stands for. Raises: Retry."""
        offered, own = await self.recall(tenant_id, plan)
        parts = Parts(conversation.question, conversation.history, offered, own, plan.query)
        return assemble(parts, model=model, tokens=self._tokens, plan=plan, generation=generation)

    async def recall(self, tenant_id: UUID, plan: ContextPlan) -> tuple[list[PassageView], list[PassageView]]:
        """The passages and the instructions of a plan, without those that are gone. Raises: Retry."""
        async with self._database.transaction(tenant_id) as work:
            offered = await passages_by_id(work, [ref.id for ref in plan.passages])
            own = await passages_by_id(work, [ref.id for ref in plan.instructions]) if plan.instructions else []
        return offered, own

    async def _opening(self, tenant_id: UUID, offered: Sequence[PassageView]) -> list[PassageView]:
        """The opening of the best document: title and summary say what it is about."""
        if not offered:
            return []
        async with self._database.transaction(tenant_id) as work:
            opening = await opening_of(work, offered[0].document_id, n_passages=OPENING)
        known = {passage.id for passage in offered}
        added = [passage for passage in opening if passage.id not in known]
        kept, _ = distinct([passage.text for passage in (*offered, *added)], limit=len(offered) + len(added))
        return [added[i - len(offered)] for i in kept if i >= len(offered)]


def _weighed(items: Sequence[ScoredPassage]) -> tuple[Weighed, ...]:
    """In the order in which they are offered: curated ones rather, documents mixed."""
    zero = min([0.0, *(item.score for item in items)])
    span = max((item.score for item in items), default=0.0) - zero
    weighed = []
    for item in items:
        is_curated = item.passage.document_type == CURATED
        relevance = ((item.score - zero) / span if span else 1.0) + CURATED_BONUS * is_curated
        weighed.append((Weighed(item, relevance, is_curated, is_offered=False), relevance, item.passage.document_id))
    mixed = spread(weighed)
    return tuple(replace(one, is_offered=n < OFFERED) for n, one in enumerate(mixed))
