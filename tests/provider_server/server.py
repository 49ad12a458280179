"""The HTTP side: frames are encoded once per answer, so that a core serves tens of thousands of tokens a second."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.provider_server.behaviour import Behaviour, answer_tokens, tokens_after

_KEPT_REQUESTS = 1000


@dataclass(slots=True)
class Stats:
    """What happened since the start or the last reset."""

    calls: int = 0
    finished: int = 0
    errors_sent: int = 0
    tokens_sent: int = 0
    disconnects: int = 0
    active: int = 0
    active_peak: int = 0
    embedding_calls: int = 0
    embedded: Counter[str] = field(default_factory=Counter)
    largest_request: int = 0
    connections: set[Any] = field(default_factory=set)
    traceparents: deque[str | None] = field(default_factory=lambda: deque(maxlen=_KEPT_REQUESTS))
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_REQUESTS))
    disconnect_times: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT_REQUESTS))


@dataclass(frozen=True, slots=True)
class _Call:
    """One request to answer: what is still to be said and how."""

    how: Behaviour
    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    include_usage: bool

    @property
    def sent(self) -> int:
        """How many tokens go out before the end or the disturbance."""
        stop = self.how.stop_after
        return len(self.tokens) if stop < 0 else min(stop, len(self.tokens))


class ProviderServer:
    """The server; `url` is an `api_base` once it is started. `behaviours["*"]` holds for all models."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.port = host, port
        self.behaviours: dict[str, Behaviour] = {"*": Behaviour()}
        self.stats = Stats()
        self.calls_by_question: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The `api_base` for an OpenAI client."""
        return f"http://{self.host}:{self.port}/v1"

    async def __aenter__(self) -> ProviderServer:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/rerank", self._rerank)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/control", self._control)
        app.router.add_get("/stats", self._stats)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=2048)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def set(self, model: str = "*", **changes: Any) -> None:
        """Changes the behaviour for `model` and starts counting its calls anew."""
        self.behaviours[model] = self.behaviours.get(model, Behaviour()).with_changes(changes)
        self.calls_by_question.clear()

    def reset(self) -> None:
        """Default behaviour, no counts."""
        self.behaviours, self.stats = {"*": Behaviour()}, Stats()
        self.calls_by_question.clear()

    async def wait_for_disconnects(self, n: int, timeout_s: float) -> None:
        """Returns once `n` clients have gone in the middle of an answer. Raises: TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.stats.disconnects >= n)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        stats = self.stats
        stats.calls += 1
        stats.requests.append(body)
        stats.traceparents.append(request.headers.get("traceparent"))
        if request.transport is not None:
            stats.connections.add(request.transport.get_extra_info("peername"))
        question = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
        how = self._behaviour(str(body["model"]), question)
        stats.active += 1
        stats.active_peak = max(stats.active_peak, stats.active)
        try:
            if refusal := _refusal(how, body):
                stats.errors_sent += 1
                return refusal
            if how.hang:
                await asyncio.sleep(3600)
            call = _call(how, question, body)
            return await (self._stream(request, call) if body.get("stream") else self._whole(call))
        except (asyncio.CancelledError, ConnectionError):
            stats.disconnects += 1
            stats.disconnect_times.append(time.monotonic())
            async with self._changed:
                self._changed.notify_all()
            raise
        finally:
            stats.active -= 1

    def _behaviour(self, model: str, question: str) -> Behaviour:
        plain = model.partition("?")[0]
        how = self.behaviours.get(plain, self.behaviours["*"]).for_call(model, question)
        key = (model, question)
        self.calls_by_question[key] += 1
        return how if how.times < 0 or self.calls_by_question[key] <= how.times else how.calm()

    async def _stream(self, request: web.Request, call: _Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        frames = _frames(call.tokens[: call.sent], call.how.split_surrogates)
        await self._paced(response, frames, call.how)
        if call.how.stop_after >= 0 and call.sent == call.how.stop_after:
            await self._disturb(request, response, call.how)
            return response
        await response.write(_end(call))
        self.stats.finished += 1
        return response

    async def _paced(self, response: web.StreamResponse, frames: tuple[bytes, ...], how: Behaviour) -> None:
        loop = asyncio.get_running_loop()
        start, n = loop.time() + how.first_token_s, 0
        if how.first_token_s:
            await asyncio.sleep(how.first_token_s)
        while n < len(frames):
            step = how.tokens_per_write
            if how.tokens_per_s:
                wait_s = start + n / how.tokens_per_s - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                due = math.floor((loop.time() - start) * how.tokens_per_s) + 1 - n  # catches up in one write
                step = max(step, due)
            data = frames[n] if step == 1 else b"".join(frames[n : n + step])
            await response.write(data)
            self.stats.tokens_sent += min(step, len(frames) - n)
            n += step

    async def _disturb(self, request: web.Request, response: web.StreamResponse, how: Behaviour) -> None:
        at = how.stop_after
        if at == how.stall_after:
            await asyncio.sleep(3600)
        if at == how.malformed_after:
            await response.write(b'data: {"choices":[{"delta":{"content":"bro\n\n')
            await response.write(_DONE)
        elif at == how.error_after:
            code = how.error_code or "server_error"
            await response.write(_data({"error": {"message": "told to fail here", "type": code, "code": code}}))
        elif at == how.drop_after and request.transport is not None:
            request.transport.close()  # what was written still arrives; the body has no end

    async def _whole(self, call: _Call) -> web.Response:
        self.stats.tokens_sent += len(call.tokens)
        self.stats.finished += 1
        message = {"role": "assistant", "content": "".join(call.tokens)}
        choice = {"index": 0, "message": message, "finish_reason": call.finish_reason}
        return web.json_response(_HEAD | {"object": "chat.completion", "choices": [choice], "usage": _usage(call)})

    async def _embeddings(self, request: web.Request) -> web.Response:
        """What it answers it has done: its texts are counted even if the client is gone by then."""
        body = await request.json()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        how = self._behaviour(str(body["model"]), texts[0])
        stats = self.stats
        stats.embedding_calls += 1
        stats.active += 1
        stats.active_peak = max(stats.active_peak, stats.active)
        try:
            if refusal := _refusal(how, body) or _too_long(how, texts):
                stats.errors_sent += 1
                return refusal
            stats.embedded.update(texts)
            stats.largest_request = max(stats.largest_request, len(texts))
            await asyncio.sleep(3600 if how.hang else how.first_token_s)
        finally:
            stats.active -= 1
        width = int(body.get("dimensions", how.width))
        items = [{"object": "embedding", "index": i, "embedding": _vector(t, width)} for i, t in enumerate(texts)]
        return web.json_response({"object": "list", "model": body["model"], "data": items[::-1]})

    async def _rerank(self, request: web.Request) -> web.Response:
        """Cohere's and Jina's shape: the score is the share of the query's words that the document has."""
        body = await request.json()
        self.stats.requests.append(body)
        query, documents = body["query"], body["documents"]
        how = self._behaviour(str(body["model"]), query)
        if refusal := _refusal(how, body):
            return refusal
        if how.hang:
            await asyncio.sleep(3600)
        words = set(query.lower().split())
        shares = [len(words & set(document.lower().split())) / len(words) for document in documents]
        results = [{"index": i, "relevance_score": share} for i, share in enumerate(shares)]
        results = results[: how.stop_after] if how.stop_after >= 0 else results
        best = sorted(results, key=lambda result: -result["relevance_score"])
        return web.json_response({"id": "rerank-test", "model": body["model"], "results": best})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "test", "object": "model"}]})

    async def _control(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            if body.get("reset"):
                self.reset()
            self.set(body.get("model", "*"), **body.get("set", {}))
        except (ValueError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    async def _stats(self, request: web.Request) -> web.Response:
        stats = self.stats
        names = ("calls", "finished", "errors_sent", "tokens_sent", "disconnects", "active", "active_peak",
                 "embedding_calls", "embedded")  # fmt: skip
        return web.json_response(
            {name: getattr(stats, name) for name in names}
            | {
                "requests": list(stats.requests),
                "traceparents": list(stats.traceparents),
            }
        )


_DONE = b"data: [DONE]\n\n"
_HEAD: dict[str, Any] = {"id": "chatcmpl-test", "created": 1700000000, "model": "test"}
_PREFIX = (
    b'data: {"id":"chatcmpl-test","object":"chat.completion.chunk","created":1700000000,"model":"test",'
    b'"choices":[{"index":0,"delta":{"content":'
)
_SUFFIX = b'},"finish_reason":null}]}\n\n'


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


@functools.lru_cache(maxsize=1024)
def _frames(tokens: tuple[str, ...], split_surrogates: bool) -> tuple[bytes, ...]:
    """One SSE event per token, so that `n` tokens sent are the first `n` frames."""
    if not split_surrogates:
        return tuple(_PREFIX + json.dumps(t, ensure_ascii=False).encode() + _SUFFIX for t in tokens)
    return tuple(b"".join(_PREFIX + piece + _SUFFIX for piece in _split_pieces(token)) for token in tokens)


def _split_pieces(token: str) -> list[bytes]:
    escaped = [json.dumps(c)[1:-1] for c in token]
    pieces, current = [], ""
    for character in escaped:
        if len(character) == 12:  # two escapes: the delta ends between them
            pieces.append(current + character[:6])
            current = character[6:]
        else:
            current += character
    return [f'"{piece}"'.encode() for piece in [*pieces, current] if piece]


def _end(call: _Call) -> bytes:
    chunk = {"object": "chat.completion.chunk"} | _HEAD
    last = _data(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": call.finish_reason}]})
    if call.include_usage and call.how.usage:
        last += _data(chunk | {"choices": [], "usage": _usage(call)})
    return last if call.how.plain_end else last + _DONE


def _usage(call: _Call) -> dict[str, int]:
    n = len(call.tokens)
    return {"prompt_tokens": call.prompt_tokens, "completion_tokens": n, "total_tokens": call.prompt_tokens + n}


def _call(how: Behaviour, question: str, body: dict[str, Any]) -> _Call:
    tokens = answer_tokens(question, how)
    last = body["messages"][-1]
    if how.prefill and last["role"] == "assistant":
        tokens = tokens_after(tokens, last["content"])
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    cut = limit is not None and limit < len(tokens)
    return _Call(
        how=how,
        tokens=tokens[:limit] if cut else tokens,
        finish_reason="length" if cut else "stop",
        prompt_tokens=sum(len(m["content"].split()) for m in body["messages"]),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")) or not body.get("stream"),
    )


def _refusal(how: Behaviour, body: dict[str, Any]) -> web.Response | None:
    if how.error_status:
        headers = {"Retry-After": how.retry_after} if how.retry_after else {}
        return _error(how.error_status, how.error_code, "told to fail", headers)
    if how.refuse and how.refuse in body:
        hint = "; use max_completion_tokens" if how.refuse == "max_tokens" else ""
        return _error(400, "unsupported_parameter", f"unsupported parameter: {how.refuse}{hint}", {})
    if body.get("continue_final_message") and body.get("add_generation_prompt", True):
        return _error(400, "invalid_request", "cannot set both continue_final_message and add_generation_prompt", {})
    return None


def _too_long(how: Behaviour, texts: list[str]) -> web.Response | None:
    if 0 <= how.max_inputs < len(texts):
        return _error(422, "", f"batch size {len(texts)} > maximum allowed batch size {how.max_inputs}", {})
    if 0 <= how.max_input_characters < max(map(len, texts)):
        return _error(400, "context_length_exceeded", "this model's maximum context length is less", {})
    return None


def _error(status: int, code: str, message: str, headers: dict[str, str]) -> web.Response:
    error = {"message": message, "type": code or "error", "code": code or None}
    return web.json_response({"error": error}, status=status, headers=headers)


def _vector(text: str, width: int) -> list[float]:
    return [float((sum(text.encode()) * (i + 1)) % 97 - 48) for i in range(width)]
