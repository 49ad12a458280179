"""What a broken or hostile rerank server answers goes no further."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from providers.ports import Candidate, ProviderError
from providers.rerankers import ServerReranker

MEGABYTE = 1024 * 1024


@asynccontextmanager
async def answering(body: bytes, *, status: int = 200) -> AsyncIterator[ServerReranker]:
    async def rerank(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_post("/rerank", rerank)
    async with TestServer(app) as server:
        reranker = ServerReranker(model="r", api_base=str(server.make_url("/")))
        yield reranker
        await reranker.close()


def scores(*given: str, filler: int = 0) -> bytes:
    results = ",".join(f'{{"index": {n}, "relevance_score": {score}}}' for n, score in enumerate(given))
    return f'{{"results": [{results}], "filler": "{"x" * filler}"}}'.encode()


TWO = [Candidate("a"), Candidate("b")]


async def test_scores_to_either_side_are_taken() -> None:
    async with answering(scores("-1e6", "1000000", filler=3 * MEGABYTE)) as reranker:
        assert await reranker.rerank("q", TWO) == [-1e6, 1e6]


@pytest.mark.parametrize("score", ["1e308", "-1e308", "1000001", "-1e7", "1e999", "NaN", "Infinity", "null"])
async def test_a_score_that_can_be_none_is_refused(score: str) -> None:
    async with answering(scores("0.5", score)) as reranker:
        with pytest.raises(ProviderError) as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


async def test_an_answer_without_end_is_refused() -> None:
    async with answering(scores("0.5", "0.4", filler=5 * MEGABYTE)) as reranker:
        with pytest.raises(ProviderError, match="more than 4 MiB") as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "protocol"


async def test_an_error_is_told_by_its_status_however_long() -> None:
    async with answering(b"x" * 5 * MEGABYTE, status=429) as reranker:
        with pytest.raises(ProviderError) as raised:
            await reranker.rerank("q", TWO)
    assert raised.value.code == "rate_limited"
