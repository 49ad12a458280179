"""What a broken or hostile rerank server answers goes no further."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from providers.ports import Candidate, ProviderError, Reranker
from providers.rerankers import LiteLLMReranker, ServerReranker

MEGABYTE = 1024 * 1024
Make = Callable[[str], Reranker]


def over_http(url: str) -> Reranker:
    return ServerReranker(model="r", api_base=url, timeout_s=20)


def over_litellm(url: str) -> Reranker:
    return LiteLLMReranker(model="jina_ai/r", api_base=f"{url}/rerank", api_key="k", timeout_s=20)


@pytest.fixture(params=[over_http, over_litellm], ids=["server", "litellm"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@asynccontextmanager
async def answering(
    body: bytes, *, status: int = 200, encoding: str | None = None, make: Make = over_http
) -> AsyncIterator[Reranker]:
    async def rerank(_: web.Request) -> web.Response:
        headers = {"content-encoding": encoding} if encoding else {}
        return web.Response(body=body, status=status, content_type="application/json", headers=headers)

    app = web.Application()
    app.router.add_post("/v1/rerank", rerank)
    async with TestServer(app) as server:
        reranker = make(str(server.make_url("/v1")))
        try:
            yield reranker
        finally:
            await reranker.close()


def scores(*given: str, filler: int = 0) -> bytes:
    results = ",".join(f'{{"index": {n}, "relevance_score": {score}}}' for n, score in enumerate(given))
    return f'{{"results": [{results}], "filler": "{"x" * filler}"}}'.encode()


TWO = [Candidate("a"), Candidate("b")]


async def test_scores_to_either_side_are_taken(make: Make) -> None:
    async with answering(scores("-1e6", "1000000", filler=3 * MEGABYTE), make=make) as reranker:
        assert await reranker.rerank("q", TWO) == [-1e6, 1e6]


@pytest.mark.parametrize(
    "score", ["1e308", "-1e308", "1000001", "-1e7", "1e999", "NaN", "Infinity", "null", "[]", '"best"', f"1{'0' * 400}"]
)
async def test_a_score_that_can_be_none_is_refused(score: str, make: Make) -> None:
    async with answering(scores("0.5", score), make=make) as reranker:
        with pytest.raises(ProviderError) as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


@pytest.mark.parametrize("given", [1, 3, 50_000])
async def test_as_many_scores_as_passages(given: int, make: Make) -> None:
    async with answering(scores(*["0.5"] * given), make=make) as reranker:
        with pytest.raises(ProviderError, match=f"{given} scores for 2 passages") as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


async def test_an_answer_without_end_is_refused(make: Make) -> None:
    async with answering(scores("0.5", "0.4", filler=5 * MEGABYTE), make=make) as reranker:
        with pytest.raises(ProviderError, match="more than 4 MiB") as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


async def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(make: Make) -> None:
    packed = gzip.compress(scores("0.5", "0.4", filler=50 * MEGABYTE))
    assert len(packed) < MEGABYTE
    async with answering(packed, encoding="gzip", make=make) as reranker:
        with pytest.raises(ProviderError) as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


async def test_an_error_is_told_by_its_status_however_long() -> None:
    async with answering(b"x" * 5 * MEGABYTE, status=429) as reranker:
        with pytest.raises(ProviderError) as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "rate_limited"
