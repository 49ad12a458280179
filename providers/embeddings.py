"""Embedders: WordLlama offline in a process of its own, and servers with OpenAI's `/embeddings`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import numpy.typing as npt

from providers.clean_text import clean
from providers.failures import from_response
from providers.ports import ProviderError

_MAX_CHARACTERS = 32_768
_MAX_TOKENS = 8_192
_PIECE_TEXTS = 64
"""Texts per trip to the child: a query waits for at most one such piece of an ingestion, ~30 ms."""

Vectors = npt.NDArray[np.float32]


def normalised(vectors: Vectors) -> Vectors:
    """Rows of length 1; a zero row (an empty text) stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


class WordLlamaEmbedder:
    """`Embedder` over WordLlama's weights, which its wheel carries: 256 dimensions, no network, no GPU.

    The model lives in one child process, begun by `start` or the first `embed` and ended by `close`; it dies with
    its parent. A child that died is replaced at the next call; a call that it died under is repeated once.
    Only the first 32,768 characters of a text count. A text without a token is a zero vector.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    @property
    def model(self) -> str:
        """Stable name."""
        return "wordllama-256"

    @property
    def dimensions(self) -> int:
        """256."""
        return 256

    async def start(self) -> None:
        """Loads the model in the child, so that the first `embed` is as fast as any. Raises: ProviderError."""
        await self.embed(["warm"])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """`(len(texts), 256)` float32, rows L2-normalised. Raises: ProviderError if the child keeps dying."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), _PIECE_TEXTS):  # one after the other: callers take turns
            vectors[start : start + _PIECE_TEXTS] = await self._embed_piece(texts[start : start + _PIECE_TEXTS])
        return vectors

    async def close(self) -> None:
        """Ends the child."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _embed_piece(self, texts: Sequence[str]) -> Vectors:
        prepared = [clean(text[:_MAX_CHARACTERS]) for text in texts]
        for _ in range(2):
            pool = self._open_pool()
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, _embed_in_child, prepared)
            except BrokenProcessPool:
                self._give_up(pool)
        raise ProviderError("overloaded", "the embedding process died twice under one call", retryable=True)

    def _open_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(max_workers=1, mp_context=spawn, initializer=_begin_child)
        return self._pool

    def _give_up(self, pool: ProcessPoolExecutor) -> None:
        pool.shutdown(wait=False)
        if self._pool is pool:
            self._pool = None


def _begin_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its child itself
    # A pool's child does not notice that its parent was killed: it holds both ends of its own queue.
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _word_llama()


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(0)


@cache
def _word_llama() -> Any:
    # Threads of the tokenizer gain nothing here and take the cores of those who answer.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import wordllama

    # Its default looks for the tokenizer in a folder that its wheel does not have.
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, dim=256, disable_download=True)
    model.tokenizer.no_padding()
    return model


def _embed_in_child(texts: list[str]) -> Vectors:
    model = _word_llama()
    vectors = np.zeros((len(texts), model.embedding.shape[1]), np.float32)
    for row, encoded in enumerate(model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        if encoded.ids:
            vectors[row] = model.embedding[np.asarray(encoded.ids[:_MAX_TOKENS])].mean(axis=0)
    return normalised(vectors)


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int


class _Answer(msgspec.Struct):
    data: list[_Item]


class OpenAIEmbedder:
    """`Embedder` over a server with OpenAI's `POST {api_base}/embeddings`.

    `model` is the name that the server knows, `dimensions` what it returns; `ask_dimensions` sends them
    along (for models whose vectors can be shortened). Texts go in batches of `batch_size`, one after the other.
    """

    def __init__(
        self,
        *,
        model: str,
        dimensions: int,
        api_base: str,
        api_key: str | None = None,
        ask_dimensions: bool = False,
        batch_size: int = 64,
        timeout_s: float = 60.0,
    ) -> None:
        self._model, self._dimensions = model, dimensions
        self._url = api_base.rstrip("/") + "/embeddings"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._options = {"dimensions": dimensions} if ask_dimensions else {}
        self._batch_size, self._timeout_s = batch_size, timeout_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def model(self) -> str:
        """Stable name."""
        return f"{self._model}-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """`(len(texts), dimensions)` float32, rows L2-normalised. Raises: ProviderError."""
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        filled = [i for i, text in enumerate(texts) if text.strip()]  # servers refuse empty texts
        for start in range(0, len(filled), self._batch_size):
            rows = filled[start : start + self._batch_size]
            vectors[rows] = await self._batch([clean(texts[i][:_MAX_CHARACTERS]) for i in rows])
        return normalised(vectors)

    async def close(self) -> None:
        """Gives up connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _batch(self, texts: list[str]) -> Vectors:
        body = {"model": self._model, "input": texts, "encoding_format": "float"} | self._options
        try:
            async with self._open_session().post(self._url, json=body, headers=self._headers) as response:
                data = await response.read()
                if response.status != 200:
                    raise from_response(response.status, response.headers, data)
        except TimeoutError:
            raise ProviderError("timeout", f"{self._url}: no answer in {self._timeout_s:g} s", retryable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderError("connection_lost", f"connection to {self._url}: {error}", retryable=True) from None
        return self._vectors(data, len(texts))

    def _vectors(self, data: bytes, n_texts: int) -> Vectors:
        try:
            items = sorted(msgspec.json.decode(data, type=_Answer).data, key=lambda item: item.index)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderError("protocol", f"{self._url}: unreadable answer: {error}", retryable=True) from None
        if [item.index for item in items] != list(range(n_texts)):
            raise ProviderError("protocol", f"{self._url}: {len(items)} vectors for {n_texts} texts", retryable=True)
        if any(len(item.embedding) != self._dimensions for item in items):
            detail = f'"{self._model}" gives {len(items[0].embedding)} dimensions, {self._dimensions} are configured'
            raise ProviderError("protocol", detail, retryable=False)
        return np.asarray([item.embedding for item in items], np.float32)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=10)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session
