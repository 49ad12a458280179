"""Rerankers that are models: servers with the common `/rerank`, and whatever litellm reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from providers.clean_text import clean
from providers.failures import from_response
from providers.litellm_calls import asked, bounded_client, load
from providers.ports import HIGHEST_SCORE, Candidate, ProviderError

_MAX_CHARACTERS = 8_192
"""Of a passage, and of a query: what is longer than any rerank model reads."""
TIMEOUT_S = 2.0
"""Somebody waits for the answer; without a better order there is still an order."""

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""A number for each passage, even where a server sends the passages back, is far less."""


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Result]


class ServerReranker:
    """`Reranker` over `POST {api_base}/rerank` as Cohere and Jina have it, and many servers after them."""

    def __init__(self, *, model: str, api_base: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._model = model
        self._url = api_base.rstrip("/") + "/rerank"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """The model's."""
        return self._model

    async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """See the port."""
        if not candidates:
            return []
        body = {"model": self._model, "query": _bounded(query), "documents": [_bounded(c.text) for c in candidates]}
        try:
            async with self._open_session().post(self._url, json=body, headers=self._headers) as response:
                data = await _beginning(response)
                if response.status != 200:
                    raise from_response(response.status, response.headers, data)
        except TimeoutError:
            raise ProviderError("timeout", f"{self._url}: no answer in {self._timeout_s:g} s", retryable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderError("connection_lost", f"connection to {self._url}: {error}", retryable=True) from None
        if len(data) > _MAX_ANSWER_BYTES:
            size = f"{_MAX_ANSWER_BYTES >> 20} MiB"
            raise ProviderError("protocol", f"{self._url}: an answer of more than {size}", retryable=True)
        try:
            results = msgspec.json.decode(data, type=_Answer).results
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderError("protocol", f"{self._url}: unreadable answer: {error}", retryable=True) from None
        return _in_order([(r.index, r.relevance_score) for r in results], len(candidates), self._url)

    async def close(self) -> None:
        """Gives up connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        return self._session


class LiteLLMReranker:
    """`Reranker` over `litellm.arerank`; `model` is litellm's name (`cohere/rerank-v3.5`)."""

    def __init__(
        self, *, model: str, api_base: str | None = None, api_key: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._model = model
        self._credentials = {k: v for k, v in (("api_base", api_base), ("api_key", api_key)) if v is not None}
        self._timeout_s = timeout_s
        self._client: Any = None

    @property
    def name(self) -> str:
        """The model's."""
        return self._model

    async def start(self) -> None:
        """Imports litellm, off the loop: seconds that the first call need not wait for."""
        await load()

    async def rerank(self, query: str, candidates: Sequence[Candidate]) -> list[float]:
        """See the port. The first call without `start` may be too late for itself, never for the next."""
        if not candidates:
            return []
        litellm = await asked(load, self._timeout_s)
        if self._client is None:
            self._client = bounded_client(litellm, max_bytes=_MAX_ANSWER_BYTES, timeout_s=self._timeout_s)

        async def scores() -> list[tuple[int, float]]:
            answer = await litellm.arerank(
                model=self._model,
                query=_bounded(query),
                documents=[_bounded(candidate.text) for candidate in candidates],
                return_documents=False,
                timeout=self._timeout_s,
                max_retries=0,
                client=self._client,
                **self._credentials,
            )
            return [(int(result["index"]), float(result["relevance_score"])) for result in answer.results or ()]

        return _in_order(await asked(scores, self._timeout_s), len(candidates), self._model)

    async def close(self) -> None:
        """Gives up connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _bounded(text: str) -> str:
    return clean(text[:_MAX_CHARACTERS]) or " "


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The body, or so much of it that it is known to be too long."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > _MAX_ANSWER_BYTES:
            break
    return bytes(data[: _MAX_ANSWER_BYTES + 1])


def _in_order(given: Sequence[tuple[int, float]], n: int, whose: str) -> list[float]:
    """Scores by index. Raises: ProviderError unless each of the `n` has one score that can be one."""
    scores = dict(given)
    if len(given) != n or scores.keys() != set(range(n)):
        raise ProviderError("protocol", f"{whose}: {len(given)} scores for {n} passages", retryable=True)
    if not all(abs(score) <= HIGHEST_SCORE for score in scores.values()):  # never true of what is not a number
        raise ProviderError("protocol", f"{whose}: a score that is not between -1e6 and 1e6", retryable=True)
    return [float(scores[i]) for i in range(n)]
