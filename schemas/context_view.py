"""Body of `GET /sessions/{id}/context`: what the model would see, and why."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from schemas.http import Passage, ResponseBody


class PromptMessage(ResponseBody):
    """A message as it is sent to the model, and how many tokens it has."""

    role: Literal["system", "user", "assistant"]
    content: str
    n_tokens: int


class SearchedQuery(ResponseBody):
    """What was searched for, and whose words these are; `failure`: why the auxiliary model's are not."""

    text: str
    by: Literal["question", "rule", "model"]
    failure: str | None = None


class ConsideredPassage(Passage):
    """A passage that was found, or added as the opening of the best document, and what became of it.

    `marker` is its number in the prompt. `ranks` are its places in the legs of the search that found it, `fused_score`
    their reciprocal rank fusion, `rerank_score` the reranker's; `relevance` is the deciding score from 0 to 1, with the
    bonus of curated documents. `left_out` says why it is not in the prompt: it says the same as another
    (`copy`, of `copy_of`), others were better (`below_cut`), or it did not fit into the window (`no_room`).
    """

    document_name: str
    document_type: str
    marker: int | None = None
    is_opening: bool = False
    n_tokens: int | None = None
    ranks: dict[str, int]
    fused_score: float | None = None
    rerank_score: float | None = None
    relevance: float | None = None
    left_out: Literal["copy", "below_cut", "no_room"] | None = None
    copy_of: UUID | None = None


class InstructionPassage(ResponseBody):
    """A passage of the tenant's `custom_instructions`; without `n_tokens` it did not fit."""

    id: UUID
    document_id: UUID
    document_name: str
    n_tokens: int | None


class ContextTokens(ResponseBody):
    """Where the model's window went. `answer` is reserved; `total` is the prompt."""

    window: int
    answer: int
    rules: int
    instructions: int
    history: int
    passages: int
    question: int
    total: int


class HistoryUse(ResponseBody):
    """How many earlier turns there are (at most 100 are looked at), and how many of the newest are in the prompt."""

    n_turns: int
    n_kept: int


class ContextView(ResponseBody):
    """What the model would see if `query` was asked now. `steps_ms` is the time of each step, in order."""

    model: str
    messages: list[PromptMessage]
    query: SearchedQuery
    passages: list[ConsideredPassage]
    instructions: list[InstructionPassage]
    history: HistoryUse
    tokens: ContextTokens
    reranker: str | None
    rerank_failure: str | None
    steps_ms: dict[str, float]
