"""Ports to models.

Adapters: `llm_direct`, `llm_litellm`, `extractive`, `embeddings`, `embeddings_remote`, `rerankers`, `tokens`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from schemas.errors import RaglineError


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn as the model sees it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class OfferedPassage:
    """A passage offered to the model as `[marker]`; `document_rank` counts from 1, best document first."""

    marker: int
    passage_id: str
    document_name: str
    text: str
    document_rank: int = 1
    ordinal: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What one provider call is asked.

    `messages` is the whole prompt (system, history, fenced passages, question). `passages` and
    `question` repeat the parts that the extractive answerer works on; other adapters ignore them.
    `prefill` is assistant text that exists already: the model continues right after it. `traceparent` (W3C) is sent
    along where the call is traced.
    """

    messages: tuple[ChatMessage, ...]
    question: str = ""
    passages: tuple[OfferedPassage, ...] = ()
    prefill: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    timeout_s: float = 120.0
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that follows what came before; never empty, well-formed (see `clean_text`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider ended the answer itself. Token counts are None where the provider gave none."""

    finish_reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class ProviderError(RaglineError):
    """A call that failed; `retryable` says whether the same call may succeed later.

    `code` is stable: `rate_limited`, `overloaded`, `timeout`, `connection_lost`, `auth`, `bad_request`,
    `context_too_long`, `content_filter`, `protocol`.
    """

    def __init__(self, code: str, detail: str, *, retryable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long text may stay away: the first, and any that follows."""

    first_text_s: float = 120.0
    stall_s: float = 30.0


class ChatModel(Protocol):
    """A model that streams text."""

    @property
    def name(self) -> str:
        """What clients ask for and see in a message's `model`."""
        ...

    @property
    def can_prefill(self) -> bool:
        """Whether `ChatRequest.prefill` is continued. If not, callers never send one."""
        ...

    @property
    def context_tokens(self) -> int:
        """Size of the window: prompt and answer together."""
        ...

    @property
    def max_output_tokens(self) -> int:
        """Most tokens of an answer when the request does not say."""
        ...

    @property
    def timeouts(self) -> Timeouts:
        """When the caller should give a stream up; an adapter itself only notices a silent connection."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Delta | Finished]:
        """Deltas in order, then exactly one `Finished`, then nothing.

        Closing the iterator (`aclose`) closes the upstream connection at once. A connection that
        ends without the provider's own end raises; it is never taken for an end.

        Raises: ProviderError.
        """
        ...


class Embedder(Protocol):
    """Text to vectors."""

    @property
    def model(self) -> str:
        """Stable name; part of cache keys and table names."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """`(len(texts), dimensions)` float32, rows L2-normalised; order kept. Never blocks the loop.

        Raises: ProviderError.
        """
        ...

    async def close(self) -> None:
        """Ends processes and connections."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage to be reranked: its text, the headings above it, and its rank (from 1) in each leg that found it."""

    text: str
    headings: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)


HIGHEST_SCORE = 1e6
"""Beyond it, to either side, is no relevance; sums and differences of scores must stay numbers."""


class Reranker(Protocol):
    """Says how well each of a few passages answers a query, by a closer look than an index can take."""

    @property
    def name(self) -> str:
        """What people are told that did it."""
        ...

    async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """A score for each candidate, in their order, between ±1e6; higher is better, comparable only within one call.

        Never blocks the loop. Raises: ProviderError.
        """
        ...

    async def close(self) -> None:
        """Gives up connections."""
        ...


class TokenCounter(Protocol):
    """Counts tokens as a model would, at least approximately."""

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        ...

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of `text` with at most `max_tokens`, never a broken character."""
        ...


@dataclass(slots=True)
class Models:
    """The configured chat models by name; the first is the default. `fallbacks`: who answers where one cannot."""

    by_name: dict[str, ChatModel] = field(default_factory=dict)
    fallbacks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def default(self) -> ChatModel:
        """The first model."""
        return next(iter(self.by_name.values()))

    def get(self, name: str | None) -> ChatModel:
        """The model a client asked for, or the default. Raises: KeyError."""
        return self.default if name is None else self.by_name[name]

    def fallbacks_after(self, current: str, *, asked: str | None) -> list[ChatModel]:
        """Who may answer where `current` could not, first choice first; `asked` is the client's model.

        Only the fallbacks of the model that was asked for count, not theirs in turn: so a chain ends.
        """
        first = self.default.name if asked is None else asked
        chain = [first, *self.fallbacks.get(first, ())]
        return [self.by_name[name] for name in chain[chain.index(current) + 1 :]] if current in chain else []
