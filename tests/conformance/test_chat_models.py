"""One suite over every adapter of `ChatModel` that talks to a server, and what the offline answerer shares of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.extractive import ExtractiveAnswerer
from providers.llm_direct import DirectChatModel
from providers.llm_litellm import LiteLLMChatModel
from providers.ports import ChatMessage, ChatModel, ChatRequest, Delta, Finished, OfferedPassage, ProviderError
from providers.prefill import PrefillMode
from providers.tokens import TiktokenCounter
from tests.provider_server import ProviderServer, answer_text

COUNTER = TiktokenCounter()
QUESTION = "How does a trace begin?"
FULL = answer_text(QUESTION)


# litellm reads pydantic models in a way that pydantic no longer likes; nothing of ours warns.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")


@dataclass
class Bench:
    """A server and a way to make models that talk to it."""

    server: ProviderServer
    kind: str
    models: list[DirectChatModel | LiteLLMChatModel]

    def model(self, prefill: PrefillMode = False, name: str = "any", **more: Any) -> ChatModel:
        if self.kind == "direct":
            self.models.append(
                DirectChatModel(
                    name="m", model=name, api_base=self.server.url, prefill=prefill, counter=COUNTER, **more
                )
            )
        else:
            self.models.append(
                LiteLLMChatModel(
                    name="m",
                    model=f"openai/{name}",
                    api_base=self.server.url,
                    api_key="none",
                    prefill=prefill,
                    counter=COUNTER,
                    **more,
                )
            )
        return self.models[-1]


@pytest.fixture(params=["direct", "litellm"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with running(request.param) as bench:
        yield bench


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[Bench]:
    async with ProviderServer() as server:
        bench = Bench(server, kind, [])
        yield bench
        for model in bench.models:
            await model.close()


def asked(prefill: str = "", **more: Any) -> ChatRequest:
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", QUESTION))
    return ChatRequest(messages=messages, question=QUESTION, prefill=prefill, **more)


async def collected(model: ChatModel, request: ChatRequest) -> tuple[str, Finished]:
    items = [item async for item in model.stream(request)]
    assert all(isinstance(item, Delta) and item.text for item in items[:-1])
    assert isinstance(items[-1], Finished)
    return "".join(cast("Delta", item).text for item in items[:-1]), items[-1]


async def until_error(model: ChatModel, request: ChatRequest) -> tuple[str, ProviderError]:
    text = ""
    try:
        async for item in model.stream(request):
            assert isinstance(item, Delta), f"an end was made up: {item}"
            text += item.text
    except ProviderError as error:
        return text, error
    pytest.fail("no error was raised")


async def test_text_then_one_finished_with_usage(bench: Bench) -> None:
    text, end = await collected(bench.model(), asked())
    assert text == FULL
    assert (end.finish_reason, end.input_tokens, end.output_tokens) == ("stop", 7, 64)


async def test_request_fields_reach_the_server(bench: Bench) -> None:
    await collected(bench.model(), asked(temperature=0.25, max_tokens=99))
    body = bench.server.stats.requests[0]
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0.25, 99, True)


async def test_the_models_own_limit_holds_when_the_request_has_none(bench: Bench) -> None:
    _, end = await collected(bench.model(max_output_tokens=10), asked())
    assert (end.finish_reason, end.output_tokens) == ("length", 10)


async def test_split_surrogates_come_out_whole(bench: Bench) -> None:
    bench.server.set(split_surrogates=True)
    text, _ = await collected(bench.model(), asked())
    assert text == FULL


@pytest.mark.parametrize("mode", [True, "continue_final_message", "prefix"])
async def test_prefill_is_continued_without_a_character_lost_or_repeated(bench: Bench, mode: PrefillMode) -> None:
    model = bench.model(prefill=mode)
    assert model.can_prefill
    after_space = next(m.end() for m in re.finditer(r"\s\s+", FULL))
    for cut in (1, 30, after_space - 1, after_space, len(FULL) - 3, len(FULL)):
        text, end = await collected(model, asked(FULL[:cut]))
        assert FULL[:cut] + text == FULL
        assert end.finish_reason == "stop"
    last = bench.server.stats.requests[2]
    sent = FULL[: after_space - 1].rstrip()
    assert last["messages"][-1]["content"] == sent
    assert last["messages"][-1].get("prefix") is (True if mode == "prefix" else None)
    assert last.get("continue_final_message") is (True if mode == "continue_final_message" else None)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.integers(0, len(FULL)))
def test_every_cut_is_continued_by_the_direct_adapter(cut: int) -> None:
    async def run() -> None:
        async with running("direct") as bench:
            text, _ = await collected(bench.model(prefill=True), asked(FULL[:cut]))
            assert FULL[:cut] + text == FULL

    asyncio.run(run())


async def test_max_tokens_shrinks_by_what_exists(bench: Bench) -> None:
    cut = len(FULL) // 2
    await collected(bench.model(prefill=True), asked(FULL[:cut], max_tokens=900))
    assert bench.server.stats.requests[0]["max_tokens"] == 900 - COUNTER.count(FULL[:cut])


async def test_a_used_up_limit_ends_without_a_call(bench: Bench) -> None:
    text, end = await collected(bench.model(prefill=True), asked(FULL, max_tokens=3))
    assert (text, end.finish_reason, bench.server.stats.calls) == ("", "length", 0)


async def test_prefill_is_refused_where_it_is_not_configured(bench: Bench) -> None:
    model = bench.model()
    assert not model.can_prefill
    _, error = await until_error(model, asked("So far"))
    assert (error.code, error.retryable) == ("bad_request", False)


@pytest.mark.parametrize("disturbance", ["drop_after", "end_after"])
@pytest.mark.parametrize("n", [0, 7])
async def test_a_cut_stream_is_never_an_end(bench: Bench, disturbance: str, n: int) -> None:
    bench.server.set("*", **{disturbance: n})
    text, error = await until_error(bench.model(), asked())
    assert (error.code, error.retryable) == ("connection_lost", True)
    assert FULL.startswith(text)


async def test_an_answer_without_done_ends_by_its_finish_reason(bench: Bench) -> None:
    bench.server.set(plain_end=True, usage=False)
    text, end = await collected(bench.model(), asked())
    assert (text, end.finish_reason) == (FULL, "stop")


@pytest.mark.parametrize(
    ("status", "error_code", "code", "retryable"),
    [
        (429, "rate_limit_exceeded", "rate_limited", True),
        (500, "", "overloaded", True),
        (503, "", "overloaded", True),
        (401, "invalid_api_key", "auth", False),
        (403, "", "auth", False),
        (400, "context_length_exceeded", "context_too_long", False),
        (400, "", "bad_request", False),
        (404, "model_not_found", "bad_request", False),
    ],
)
async def test_statuses(bench: Bench, status: int, error_code: str, code: str, retryable: bool) -> None:
    bench.server.set(error_status=status, error_code=error_code)
    _, error = await until_error(bench.model(), asked())
    assert (error.code, error.retryable) == (code, retryable)
    assert bench.server.stats.calls == 1, "retries are the caller's"


async def test_retry_after_is_handed_on(bench: Bench) -> None:
    bench.server.set(error_status=429, retry_after="7", times=1)
    model = bench.model()
    _, error = await until_error(model, asked())
    assert error.retry_after_s == 7
    text, _ = await collected(model, asked())
    assert text == FULL


async def test_an_error_inside_the_stream(bench: Bench) -> None:
    bench.server.set(error_after=5)
    text, error = await until_error(bench.model(), asked())
    assert error.retryable
    assert FULL.startswith(text)


async def test_a_malformed_line_is_an_error_not_a_gap(bench: Bench) -> None:
    bench.server.set(malformed_after=5)
    text, error = await until_error(bench.model(), asked())
    assert error.retryable
    assert FULL.startswith(text)


@pytest.mark.parametrize("silence", [{"stall_after": 3}, {"hang": True}])
async def test_silence_is_a_timeout(bench: Bench, silence: dict[str, Any]) -> None:
    bench.server.set(**silence)
    started = time.monotonic()
    _, error = await until_error(bench.model(), asked(timeout_s=0.3))
    assert (error.code, error.retryable) == ("timeout", True)
    assert time.monotonic() - started < 3


async def test_a_server_that_is_away(bench: Bench) -> None:
    model = bench.model()
    bench.models.clear()
    await bench.server.__aexit__(None, None, None)
    _, error = await until_error(model, asked())
    assert (error.code, error.retryable) == ("connection_lost", True)
    await cast("DirectChatModel", model).close()


async def test_closing_the_iterator_closes_upstream_at_once(bench: Bench) -> None:
    bench.server.set(n_tokens=100_000, tokens_per_s=50)
    stream = cast("AsyncGenerator[Delta | Finished, None]", bench.model().stream(asked()))
    async with aclosing(stream):
        await anext(stream)
        closed_at = time.monotonic()
    await bench.server.wait_for_disconnects(1, timeout_s=1)
    assert bench.server.stats.disconnect_times[0] - closed_at < 1


async def test_cancelling_the_reader_closes_upstream_at_once(bench: Bench) -> None:
    bench.server.set(stall_after=2)
    first = asyncio.Event()

    async def read() -> None:
        async for _ in bench.model().stream(asked()):
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.server.wait_for_disconnects(1, timeout_s=1)


async def test_many_streams_at_once(bench: Bench) -> None:
    n = 200 if bench.kind == "direct" else 10
    bench.server.set(n_tokens=20, tokens_per_s=40)
    model = bench.model()
    answers = await asyncio.gather(*(collected(model, asked()) for _ in range(n)))
    assert len({text for text, _ in answers}) == 1
    assert bench.server.stats.active_peak == n


async def test_connections_are_used_again(bench: Bench) -> None:
    model = bench.model()
    for _ in range(3):
        await collected(model, asked())
    assert len(bench.server.stats.connections) == 1


async def test_the_direct_adapter_leaves_out_fields_that_the_server_does_not_know() -> None:
    async with running("direct") as bench:
        for field in ("stream_options", "max_tokens"):
            bench.server.set(refuse=field)
            text, _ = await collected(bench.model(), asked())
            assert text == FULL


PASSAGES = tuple(
    OfferedPassage(marker=i, passage_id=f"p{i}", document_name="a.txt", text=text, ordinal=i)
    for i, text in enumerate(
        [
            "A trace begins at a loop header. The header is counted.\nWhen the counter reaches two, the trace begins.",
            "Numbers are integers. Strings are not numbers at all, of course.",
        ],
        start=1,
    )
)


@pytest.mark.parametrize("cut", [0, 1, 10, 40, 10_000])
async def test_the_offline_answerer_continues_itself(cut: int) -> None:
    model: ChatModel = ExtractiveAnswerer(counter=COUNTER)
    full, _ = await collected(model, ChatRequest(messages=(), question=QUESTION, passages=PASSAGES))
    assert "[1]" in full
    text, end = await collected(
        model, ChatRequest(messages=(), question=QUESTION, passages=PASSAGES, prefill=full[:cut])
    )
    assert full[:cut] + text == full
    assert end.finish_reason == "stop"


async def test_the_offline_answerer_keeps_to_max_tokens() -> None:
    model: ChatModel = ExtractiveAnswerer(counter=COUNTER)
    request = ChatRequest(messages=(), question=QUESTION, passages=PASSAGES, max_tokens=4)
    text, end = await collected(model, request)
    assert COUNTER.count(text) <= 4
    assert (end.finish_reason, bool(text)) == ("length", True)


_: Callable[..., ChatModel] = LiteLLMChatModel  # the adapters satisfy the port
