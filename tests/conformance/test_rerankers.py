"""One suite over every adapter of `Reranker`."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from providers.ports import Candidate, ProviderError, Reranker
from providers.rerankers import LiteLLMReranker, ServerReranker
from retrieval.feature_reranker import FeatureReranker
from tests.provider_server import ProviderServer

TEXTS = ("tomato soup with basil", "the loop counter reaches two", "a loop is left by its side exit")


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


def over_http(url: str) -> Reranker:
    return ServerReranker(model="r", api_base=url, api_key="k", timeout_s=0.5)


def over_litellm(url: str) -> Reranker:
    return LiteLLMReranker(model="jina_ai/r", api_base=f"{url}/rerank", api_key="k", timeout_s=0.5)


@pytest.fixture(params=["features", "server", "litellm"])
async def reranker(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Reranker]:
    made = {"features": lambda _: FeatureReranker(), "server": over_http, "litellm": over_litellm}[request.param]
    one: Reranker = made(server.url)
    if isinstance(one, LiteLLMReranker):
        await one.start()
    yield one
    await one.close()


@pytest.fixture(params=[over_http, over_litellm], ids=["server", "litellm"])
async def remote(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Reranker]:
    make: Callable[[str], Reranker] = request.param
    one = make(server.url)
    if isinstance(one, LiteLLMReranker):
        await one.start()
    yield one
    await one.close()


async def test_a_score_for_each_in_their_order(reranker: Reranker) -> None:
    scores = await reranker.rerank("loop counter", [Candidate(text) for text in TEXTS])
    assert len(scores) == 3
    assert all(math.isfinite(score) for score in scores)
    assert scores[1] > scores[2] > scores[0]
    assert reranker.name


async def test_nothing_to_rerank(reranker: Reranker) -> None:
    assert await reranker.rerank("loop", []) == []


async def test_odd_texts_are_taken(reranker: Reranker) -> None:
    odd = ["", " \n", "a\ud800b", "nul \x00", "x" * 100_000, "😀", "東京都の人口"]
    scores = await reranker.rerank("\ud800 東京 \x00", [Candidate(text, headings=("", "\ud800")) for text in odd])
    assert len(scores) == len(odd)
    assert all(math.isfinite(score) for score in scores)


@pytest.mark.parametrize(
    ("fault", "code"),
    [({"error_status": 429}, "rate_limited"), ({"error_status": 401}, "auth"), ({"end_after": 1}, "protocol")],
)
async def test_faults_say_what_they_are(
    remote: Reranker, server: ProviderServer, fault: dict[str, Any], code: str
) -> None:
    server.set(**fault)
    with pytest.raises(ProviderError) as raised:
        await remote.rerank("loop", [Candidate(text) for text in TEXTS])
    assert raised.value.code == code


async def test_a_silent_server_is_given_up(remote: Reranker, server: ProviderServer) -> None:
    server.set(hang=True)
    began = time.monotonic()
    with pytest.raises(ProviderError) as raised:
        await remote.rerank("loop", [Candidate(text) for text in TEXTS])
    assert raised.value.code == "timeout"
    assert time.monotonic() - began < 5


async def test_a_server_that_is_away() -> None:
    reranker = over_http("http://127.0.0.1:9/v1")
    with pytest.raises(ProviderError) as raised:
        await reranker.rerank("loop", [Candidate("loop")])
    assert raised.value.code == "connection_lost"
    await reranker.close()
