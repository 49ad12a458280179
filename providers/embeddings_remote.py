"""Embedders behind a network: requests of a bounded size, a bounded number at once, none while the provider rests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import numpy as np

from providers.clean_text import clean
from providers.embeddings import MAX_CHARACTERS, Vectors, normalised
from providers.ports import ProviderError

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""A rest that ends within so long is waited for; of a longer one the caller hears how long it is."""
_LONGEST_REST_S = 3600.0
_SHORTEST_CUT = 64
_BYTES_PER_TOKEN = 3
"""A guess that errs on the safe side for most texts; a request that is too long for its provider is split anyway."""


class EmbeddingApi(Protocol):
    """One request to a provider."""

    async def start(self) -> None:
        """Does what takes seconds. Raises: ValueError for a model that nobody knows."""
        ...

    async def ask(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector a text, in order, of any length. Raises: ProviderError."""
        ...

    async def close(self) -> None:
        """Gives up connections."""
        ...


class RemoteEmbedder:
    """`Embedder` over an `EmbeddingApi`; share one in a process, for its limits are the process's.

    A caller's requests (at most `batch_size` texts and about `max_batch_tokens`) go one after the other, so that
    callers take turns; `requests_at_once` bounds those of all. While the provider asks to be left alone (Retry-After)
    nobody asks it. A request that is too long is split, and a text that is too long by itself is cut to the part of
    its beginning that the provider takes, in halves. Only the first 32,768 characters of a text count.
    """

    def __init__(
        self,
        api: EmbeddingApi,
        *,
        model: str,
        dimensions: int,
        batch_size: int = 128,
        max_batch_tokens: int = 100_000,
        requests_at_once: int = 4,
    ) -> None:
        self._api, self._name, self._dimensions = api, model, dimensions
        self._batch_size, self._max_batch_bytes = batch_size, max_batch_tokens * _BYTES_PER_TOKEN
        self._slots = asyncio.Semaphore(requests_at_once)
        self._rests_until_s = 0.0

    @property
    def model(self) -> str:
        """Stable name: the model's with its dimensions."""
        return f"{self._name}-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    async def start(self) -> None:
        """Prepares; the provider is not asked. Raises: ValueError for a model that nobody knows."""
        await self._api.start()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """`(len(texts), dimensions)` float32, rows L2-normalised; a blank text is a zero vector. Raises: ProviderError.

        `rate_limited` with the seconds left while the provider rests for longer than `PATIENCE_S`.
        """
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        filled = {row: clean(text[:MAX_CHARACTERS]) for row, text in enumerate(texts) if text.strip()}
        for rows in self._requests(filled):
            vectors[rows] = await self._vectors([filled[row] for row in rows])
        return normalised(vectors)

    async def close(self) -> None:
        """Gives up connections."""
        await self._api.close()

    def _requests(self, texts: dict[int, str]) -> Iterator[list[int]]:
        rows: list[int] = []
        n_bytes = 0
        for row, text in texts.items():
            size = len(text.encode())
            if rows and (len(rows) == self._batch_size or n_bytes + size > self._max_batch_bytes):
                yield rows
                rows, n_bytes = [], 0
            rows.append(row)
            n_bytes += size
        if rows:
            yield rows

    async def _vectors(self, texts: list[str]) -> Vectors:
        try:
            async with self._turn():
                found = await self._api.ask(texts)
        except ProviderError as error:
            if error.code != "context_too_long":
                raise
            return await self._smaller(texts, error)
        return self._checked(found, len(texts))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the requests at once, when the provider does not rest; whom it turns away, it turns all away."""
        clock = asyncio.get_running_loop().time
        async with self._slots:
            while (rest_s := self._rests_until_s - clock()) > 0:
                if rest_s > PATIENCE_S:
                    detail = f"{self._name}: the provider asked to be left alone for {rest_s:.0f} s more"
                    raise ProviderError("rate_limited", detail, retryable=True, retry_after_s=rest_s)
                await asyncio.sleep(rest_s)
            try:
                yield
            except ProviderError as error:
                if error.retryable and error.retry_after_s is not None:
                    rests_until_s = clock() + min(error.retry_after_s, _LONGEST_REST_S)
                    self._rests_until_s = max(self._rests_until_s, rests_until_s)
                raise

    async def _smaller(self, texts: list[str], error: ProviderError) -> Vectors:
        half = len(texts) // 2
        if half:
            return np.concatenate([await self._vectors(texts[:half]), await self._vectors(texts[half:])])
        cut = texts[0][: len(texts[0]) // 2]
        if len(cut) < _SHORTEST_CUT or not cut.strip():
            raise error
        logger.warning("%s: of a text of %d characters only the first half counts", self._name, len(texts[0]))
        return await self._vectors([cut])

    def _checked(self, found: Sequence[Sequence[float]], n_texts: int) -> Vectors:
        if len(found) != n_texts:
            raise ProviderError("protocol", f"{self._name}: {len(found)} vectors for {n_texts} texts", retryable=True)
        other = next((len(vector) for vector in found if len(vector) != self._dimensions), None)
        if other is not None:
            detail = (
                f'"{self._name}" gives {other} dimensions, {self._dimensions} are configured;'
                f" set embedding.dimensions to {other}"
            )
            raise ProviderError("protocol", detail, retryable=False)
        vectors = np.asarray(found, np.float32)
        if not np.isfinite(vectors).all():
            raise ProviderError("protocol", f"{self._name}: a vector holds what is no number", retryable=True)
        return vectors
