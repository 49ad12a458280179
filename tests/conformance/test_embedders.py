"""One suite over every adapter of `Embedder`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import psutil
import pytest

from providers.embeddings import OpenAIEmbedder, WordLlamaEmbedder
from providers.ports import Embedder, ProviderError
from tests.provider_server import ProviderServer


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@pytest.fixture(params=["wordllama", "openai"])
async def embedder(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Embedder]:
    made: Embedder = (
        WordLlamaEmbedder()
        if request.param == "wordllama"
        else OpenAIEmbedder(model="e", dimensions=8, api_base=server.url, batch_size=10)
    )
    yield made
    await made.close()


@pytest.fixture
async def offline() -> AsyncIterator[WordLlamaEmbedder]:
    embedder = WordLlamaEmbedder()
    await embedder.start()
    yield embedder
    await embedder.close()


async def test_shape_type_and_length(embedder: Embedder) -> None:
    vectors = await embedder.embed(["one", "two words", "한국어 문서입니다", "日本語", "😀"])
    assert vectors.shape == (5, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert str(embedder.dimensions) in embedder.model


async def test_order_is_kept_over_batches_and_calls(embedder: Embedder) -> None:
    texts = [f"text number {i}" for i in range(150)]
    together = await embedder.embed(texts)
    for i in (0, 63, 64, 149):
        assert np.allclose((await embedder.embed([texts[i]]))[0], together[i], atol=1e-5)


async def test_empty_texts_are_zero_never_nan(embedder: Embedder) -> None:
    vectors = await embedder.embed(["", "word", "   "])
    assert np.isfinite(vectors).all()
    assert not vectors[0].any()
    assert (await embedder.embed([])).shape == (0, embedder.dimensions)


async def test_ill_formed_and_long_texts_are_taken(embedder: Embedder) -> None:
    vectors = await embedder.embed(["a\ud800b", "nul \x00 here", "word " * 500_000, "x" * 2_000_000])
    assert np.isfinite(vectors).all()


async def test_the_loop_never_waits(embedder: Embedder) -> None:
    await embedder.embed(["warm"])
    gaps: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watcher = asyncio.create_task(watch())
    await embedder.embed(["the quick brown fox jumps over the lazy dog " * 20] * 2_000)
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    assert max(gaps, default=0) < 0.25


async def test_near_meanings_are_near(offline: WordLlamaEmbedder) -> None:
    car, auto, soup = await offline.embed(["a fast car", "a quick automobile", "tomato soup recipe"])
    assert car @ auto > car @ soup


async def test_vectors_are_those_of_the_library(offline: WordLlamaEmbedder) -> None:
    code = (
        "import wordllama, pathlib, sys, numpy as np\n"
        "m = wordllama.WordLlama.load(cache_dir=pathlib.Path(wordllama.__file__).parent, disable_download=True)\n"
        "sys.stdout.buffer.write(m.embed(['a trace begins', '추적'], norm=True).tobytes())\n"
    )
    raw = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", code], timeout=60)
    theirs = np.frombuffer(raw, np.float32).reshape(2, 256)
    assert np.allclose(await offline.embed(["a trace begins", "추적"]), theirs, atol=1e-5)


def model_processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


async def test_a_killed_child_is_replaced(offline: WordLlamaEmbedder) -> None:
    before = await offline.embed(["same"])
    (child,) = model_processes()
    child.kill()
    assert np.array_equal(await offline.embed(["same"]), before)
    (other,) = model_processes()
    assert other.pid != child.pid


async def test_a_child_killed_in_the_middle_is_replaced(offline: WordLlamaEmbedder) -> None:
    (child,) = model_processes()
    running = asyncio.create_task(offline.embed(["some words to embed " * 100] * 2_000))
    await asyncio.sleep(0)
    child.kill()
    assert np.allclose(np.linalg.norm(await running, axis=1), 1, atol=1e-5)


async def test_close_ends_the_child() -> None:
    embedder = WordLlamaEmbedder()
    await embedder.start()
    (child,) = model_processes()
    await embedder.close()
    assert not child.is_running()


def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    code = (
        "import asyncio\n"
        "from providers.embeddings import WordLlamaEmbedder\n"
        "async def main():\n"
        "    embedder = WordLlamaEmbedder()\n"
        "    await embedder.start()\n"
        "    print(*embedder._pool._processes, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess):
            child.wait(timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_refusing_server(server: ProviderServer) -> None:
    embedder = OpenAIEmbedder(model="e", dimensions=8, api_base=server.url)
    server.set(error_status=429, retry_after="3", times=1)
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(["a"])
    assert (raised.value.code, raised.value.retry_after_s) == ("rate_limited", 3)
    assert (await embedder.embed(["a"])).shape == (1, 8)
    await embedder.close()


async def test_other_dimensions_than_configured(server: ProviderServer) -> None:
    embedder = OpenAIEmbedder(model="e", dimensions=16, api_base=server.url)
    with pytest.raises(ProviderError, match="gives 8 dimensions, 16 are configured") as raised:
        await embedder.embed(["a"])
    assert not raised.value.retryable
    await embedder.close()


async def test_shortened_vectors_are_asked_for(server: ProviderServer) -> None:
    embedder = OpenAIEmbedder(model="e", dimensions=16, api_base=server.url, ask_dimensions=True)
    assert (await embedder.embed(["a"])).shape == (1, 16)
    await embedder.close()


async def test_a_server_that_is_away() -> None:
    embedder = OpenAIEmbedder(model="e", dimensions=8, api_base="http://127.0.0.1:9/v1")
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(["a"])
    assert (raised.value.code, raised.value.retryable) == ("connection_lost", True)
    await embedder.close()
