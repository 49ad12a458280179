"""What the model would see of a chat, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from producers.edge.caller import Asking
from producers.edge.passages import passage_fields
from producers.edge.problems import Unavailable, not_found
from producers.edge.reads.bounded import Reads, within
from producers.edge.requests import path_id
from producers.edge.responses import json_response
from providers.ports import ChatModel, ProviderError, TokenCounter
from retrieval.context import Budget
from retrieval.preparing import MAX_HISTORY, Contexts, Conversation, Preparation, Weighed
from retrieval.search import ScoredPassage
from retrieval.steps import Steps
from schemas.commands import Generation
from schemas.context_view import (
    ConsideredPassage,
    ContextTokens,
    ContextView,
    HistoryUse,
    InstructionPassage,
    PromptMessage,
    SearchedQuery,
)
from schemas.errors import Retry
from schemas.http import Filled
from storage.ports import PassageView
from storage.postgres.conversations import leaf_of, library_of, path_to
from storage.postgres.unit_of_work import UnitOfWork

MAX_QUERY_CHARS = 10_000
"""What an address can hold."""
Asked = Annotated[Filled, Query(max_length=MAX_QUERY_CHARS, description="The question that would be asked.")]


@dataclass(frozen=True, slots=True)
class Preview:
    """What prepares a context as a worker does, and the model that would be asked."""

    contexts: Contexts
    model: ChatModel
    tokens: TokenCounter
    timeout_s: float = 15.0


class SessionContextRoutes:
    """`/sessions/{session_id}/context`. It is for the session's user alone, and changes nothing."""

    def __init__(self, reads: Reads, preview: Preview) -> None:
        self._reads = reads
        self._preview = preview

    def add_to(self, router: APIRouter) -> None:
        """Declares the route."""
        router.add_api_route("/sessions/{session_id}/context", self.show, methods=["GET"], response_model=ContextView)

    async def show(self, caller: Asking, session_id: str, query: Asked) -> Response:
        """See what the model would be given for a question, and why: passages, scores, tokens, times."""
        who, id_, preview, steps = caller.principal, path_id(session_id, "session"), self._preview, Steps()

        async def read(work: UnitOfWork) -> Conversation | None:
            found = await leaf_of(work, id_, user_id=who.user_id)
            if found is None:
                return None
            (leaf,) = found
            turns = await path_to(work, id_, leaf, limit=MAX_HISTORY) if leaf is not None else []
            return Conversation(query, [turn for turn in turns if turn.content], await library_of(work))

        with steps.step("conversation"):
            conversation = await self._reads(who.tenant_id, read)
        if conversation is None:
            raise not_found("session")
        work = preview.contexts.prepare(
            who.tenant_id, conversation, model=preview.model, generation=Generation(), steps=steps
        )
        try:
            prepared = await within(preview.timeout_s, work)
        except (Retry, ProviderError, TimeoutError) as error:
            raise Unavailable("search_unavailable", "search does not answer; repeat the request soon") from error
        return json_response(view_of(prepared, preview.model, preview.tokens))


def view_of(prepared: Preparation, model: ChatModel, tokens: TokenCounter) -> ContextView:
    """A preparation as it is shown."""
    assembled, found, budget = prepared.assembled, prepared.found, prepared.assembled.budget
    assert budget is not None  # noqa: S101 - for the type checker: a new context is weighed
    return ContextView(
        model=model.name,
        messages=[
            PromptMessage(role=message.role, content=message.content, n_tokens=tokens.count(message.content))
            for message in assembled.request.messages
        ],
        query=SearchedQuery(text=prepared.query.text, by=prepared.query.by, failure=prepared.query.failure),
        passages=list(_passages(prepared, budget)),
        instructions=[
            InstructionPassage(
                id=view.id, document_id=view.document_id, document_name=view.document_name, n_tokens=n_tokens
            )
            for view, n_tokens in zip(prepared.instructions, budget.instructions, strict=True)
        ],
        history=HistoryUse(n_turns=len(budget.history), n_kept=budget.n_history_kept),
        tokens=_tokens(budget, assembled.prompt_tokens),
        reranker=found.reranker,
        rerank_failure=found.failure,
        steps_ms={name: round(took_s * 1000, 3) for name, took_s in prepared.steps.took_s.items()},
    )


def _tokens(budget: Budget, total: int) -> ContextTokens:
    kept = budget.history[len(budget.history) - budget.n_history_kept :]
    return ContextTokens(
        window=budget.window,
        answer=budget.answer,
        rules=budget.rules,
        instructions=sum(filter(None, budget.instructions)),
        history=sum(kept),
        passages=sum(filter(None, budget.passages)),
        question=budget.question,
        total=total,
    )


def _passages(prepared: Preparation, budget: Budget) -> Iterator[ConsideredPassage]:
    """In the order of the prompt, then what was left out of it, best first."""
    weighed = {one.item.passage.id: one for one in prepared.weighed}
    markers = {ref.id: n for n, ref in enumerate(prepared.assembled.plan.passages, start=1)}
    offered = prepared.offered
    for passage, n_tokens in zip(offered, budget.passages, strict=True):
        marker = markers.get(passage.id)
        yield _considered(passage, weighed.get(passage.id)).model_copy(
            update={
                "marker": marker,
                "n_tokens": n_tokens,
                "is_opening": passage in prepared.opening,
                "left_out": "no_room" if marker is None else None,
            }
        )
    for one in prepared.weighed:
        if not one.is_offered and one.item.passage not in offered:
            yield _considered(one.item.passage, one).model_copy(update={"left_out": "below_cut"})
    for item, original in prepared.found.copies:
        yield _scored(item).model_copy(update={"left_out": "copy", "copy_of": original})


def _considered(passage: PassageView, weighed: Weighed | None) -> ConsideredPassage:
    """An opening need not have been found."""
    if weighed is None:
        return _plain(passage)
    return _scored(weighed.item).model_copy(update={"relevance": weighed.relevance})


def _scored(item: ScoredPassage) -> ConsideredPassage:
    return _plain(item.passage).model_copy(
        update={"ranks": dict(item.ranks), "fused_score": item.fused, "rerank_score": item.rerank}
    )


def _plain(passage: PassageView) -> ConsideredPassage:
    return ConsideredPassage(
        **passage_fields(passage), document_name=passage.document_name, document_type=passage.document_type, ranks={}
    )
