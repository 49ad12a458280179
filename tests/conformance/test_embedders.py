"""One suite over every adapter of `Embedder`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import pytest

from providers.catalog import EmbeddingSpec, build_embedder, start_embedder
from providers.embeddings import WordLlamaEmbedder
from providers.embeddings_remote import PATIENCE_S
from providers.ports import Embedder, ProviderError
from tests.provider_server import ProviderServer


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


Build = Callable[..., Embedder]


def remote(server: ProviderServer, adapter: Any, **changes: Any) -> Embedder:
    """An embedder that asks the server."""
    given: dict[str, Any] = {"model": "openai/e", "api_base": server.url, "api_key": "sk-test", "dimensions": 8}
    return build_embedder(EmbeddingSpec(adapter=adapter, **given | changes))


@pytest.fixture(params=["offline", "direct", "litellm"])
async def embedder(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Embedder]:
    is_offline = request.param == "offline"
    made = build_embedder(EmbeddingSpec()) if is_offline else remote(server, request.param, batch_size=10)
    await start_embedder(made)
    yield made
    await made.close()


@pytest.fixture(params=["direct", "litellm"])
async def build(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Build]:
    """Builds embedders that ask the server; they are closed at the end."""
    built: list[Embedder] = []

    def make(**changes: Any) -> Embedder:
        built.append(remote(server, request.param, **changes))
        return built[-1]

    yield make
    for one in built:
        await one.close()


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
    here = 0.25 if isinstance(embedder, WordLlamaEmbedder) else 1.5  # the others' server runs in this loop, too
    assert max(gaps, default=0) < here


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


async def test_a_provider_that_asks_for_a_rest_gets_it_from_everybody(server: ProviderServer, build: Build) -> None:
    """Who is turned away tells all others of the process; nobody asks before the time."""
    embedder = build()
    server.set(error_status=429, retry_after="0.4", times=1)
    began = time.monotonic()
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(["a"])
    assert (raised.value.code, raised.value.retry_after_s) == ("rate_limited", 0.4)
    n_calls = server.stats.embedding_calls
    server.set(error_status=0)
    waiting = [asyncio.create_task(embedder.embed([str(n)])) for n in range(3)]
    await asyncio.sleep(0)
    assert server.stats.embedding_calls == n_calls == 1
    assert all(vectors.shape == (1, 8) for vectors in await asyncio.gather(*waiting))
    assert time.monotonic() - began >= 0.4


async def test_a_long_rest_is_told_and_not_waited_for(server: ProviderServer, build: Build) -> None:
    embedder = build()
    server.set(error_status=503, retry_after="600")
    for code in ("overloaded", "rate_limited", "rate_limited"):
        with pytest.raises(ProviderError) as raised:
            await embedder.embed(["a"])
        assert (raised.value.code, raised.value.retryable) == (code, True)
        assert PATIENCE_S < (raised.value.retry_after_s or 0) <= 600
    assert server.stats.embedding_calls == 1


@pytest.mark.parametrize(
    ("status", "code", "expected", "retryable"),
    [
        (401, "invalid_api_key", "auth", False),
        (429, "insufficient_quota", "rate_limited", False),
        (500, "", "overloaded", True),
        (404, "model_not_found", "bad_request", False),
    ],
)
async def test_refusals(
    server: ProviderServer, build: Build, status: int, code: str, expected: str, *, retryable: bool
) -> None:
    server.set(error_status=status, error_code=code)
    with pytest.raises(ProviderError) as raised:
        await build().embed(["a"])
    assert (raised.value.code, raised.value.retryable) == (expected, retryable)
    assert server.stats.embedding_calls == 1, "who repeats decides, not a library"


async def test_other_dimensions_than_configured(build: Build) -> None:
    says = '"openai/e" gives 8 dimensions, 16 are configured; set embedding.dimensions to 8'
    with pytest.raises(ProviderError, match=says) as raised:
        await build(dimensions=16).embed(["a"])
    assert not raised.value.retryable


async def test_shortened_vectors_are_asked_for(build: Build) -> None:
    # litellm lets them through for models that it knows to take them
    embedder = build(model="openai/text-embedding-3-small", dimensions=16, ask_dimensions=True)
    assert (await embedder.embed(["a"])).shape == (1, 16)


async def test_requests_are_bounded_in_texts_tokens_and_number(server: ProviderServer, build: Build) -> None:
    embedder = build(batch_size=10, max_batch_tokens=100, requests_at_once=2)
    server.set(first_token_s=0.02)
    await asyncio.gather(*(embedder.embed([f"{n} {m}" for m in range(25)]) for n in range(6)))
    assert (server.stats.embedding_calls, server.stats.largest_request) == (6 * 3, 10)
    assert server.stats.active_peak == 2
    server.reset()
    await embedder.embed(["x" * 90 + str(n) for n in range(10)])  # of about 30 tokens each
    assert (server.stats.embedding_calls, server.stats.largest_request) == (4, 3)


async def test_callers_take_turns(server: ProviderServer, build: Build) -> None:
    """A question does not wait for all that a large document still has to ask."""
    embedder = build(batch_size=1, requests_at_once=1)
    server.set(first_token_s=0.02)
    large = asyncio.create_task(embedder.embed([f"passage {n}" for n in range(50)]))
    while not server.stats.active:
        await asyncio.sleep(0.001)
    await embedder.embed(["question"])
    asked = list(server.stats.embedded)
    assert asked.index("question") <= 2
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)


async def test_what_is_too_long_is_split_then_cut(server: ProviderServer, build: Build) -> None:
    embedder = build()
    server.set(max_inputs=3, max_input_characters=300)
    texts = [f"text {n}" for n in range(10)]
    long = "the beginning counts " * 50
    found = await embedder.embed([*texts, long])
    assert np.array_equal(found, await build().embed([*texts, long[: len(long) // 4]]))
    assert server.stats.embedded.keys() == {*texts, long[: len(long) // 4]}


async def test_a_provider_that_takes_nothing_is_believed_in_the_end(server: ProviderServer, build: Build) -> None:
    server.set(max_input_characters=0)
    with pytest.raises(ProviderError) as raised:
        await build().embed(["word " * 10_000])
    assert (raised.value.code, raised.value.retryable) == ("context_too_long", False)
    assert server.stats.embedding_calls < 12


async def test_a_server_that_is_away(build: Build) -> None:
    """A process starts without it."""
    embedder = build(api_base="http://127.0.0.1:9/v1")
    await start_embedder(embedder)
    with pytest.raises(ProviderError) as raised:
        await embedder.embed(["a"])
    assert (raised.value.code, raised.value.retryable) == ("connection_lost", True)


async def test_a_server_that_is_silent(server: ProviderServer, build: Build) -> None:
    server.set(first_token_s=30)
    with pytest.raises(ProviderError) as raised:
        await build(timeout_s=0.1).embed(["a"])
    assert (raised.value.code, raised.value.retryable) == ("timeout", True)
