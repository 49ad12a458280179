"""The offline embedder: WordLlama in a process of its own."""

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

import numpy as np
import numpy.typing as npt

from providers.clean_text import clean
from providers.ports import ProviderError

OFFLINE_MODEL, OFFLINE_DIMENSIONS = "wordllama-256", 256
MAX_CHARACTERS = 32_768
"""Of a text; what follows does not count."""
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
        return OFFLINE_MODEL

    @property
    def dimensions(self) -> int:
        """256."""
        return OFFLINE_DIMENSIONS

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
        prepared = [clean(text[:MAX_CHARACTERS]) for text in texts]
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
    model = wordllama.WordLlama.load(cache_dir=folder, dim=OFFLINE_DIMENSIONS, disable_download=True)
    model.tokenizer.no_padding()
    return model


def _embed_in_child(texts: list[str]) -> Vectors:
    model = _word_llama()
    vectors = np.zeros((len(texts), model.embedding.shape[1]), np.float32)
    for row, encoded in enumerate(model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        if encoded.ids:
            vectors[row] = model.embedding[np.asarray(encoded.ids[:_MAX_TOKENS])].mean(axis=0)
    return normalised(vectors)
