"""Chat models behind any server that speaks OpenAI's chat-completions protocol with SSE.

aiohttp and msgspec only: about 30 µs of CPU per token, an order less than an SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec

from providers.chat_chunks import Reading
from providers.failures import from_response
from providers.ports import ChatRequest, Delta, Finished, ProviderError, Timeouts, TokenCounter
from providers.prefill import (
    AnswerText,
    PrefillMode,
    check_can_prefill,
    plan_continuation,
    wire_messages,
    wire_options,
)

_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_DRAIN_S = 0.05
_AFTER_END_S = 5.0
_KEEP_ALIVE_S = 4.0
"""Below uvicorn's 5 s: a request must not meet a connection that the server is just closing."""


class DirectChatModel:
    """`ChatModel` over one OpenAI-compatible server.

    `api_base` ends before `/chat/completions` (usually in `/v1`). `timeout_s` bounds the wait between
    two pieces of the stream, as does `ChatRequest.timeout_s`: the smaller counts. The connections
    belong to this object: opened at the first call, reused, given up by `close`.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_base: str,
        api_key: str | None = None,
        prefill: PrefillMode = False,
        context_tokens: int = 8192,
        max_output_tokens: int = 2048,
        timeout_s: float = 120.0,
        stall_timeout_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        counter: TokenCounter,
    ) -> None:
        if not api_base.startswith(("http://", "https://")):
            raise ValueError(f'model "{name}": api_base must begin with http:// or https://, got {api_base!r}')
        self._name, self._model = name, model
        self._url = api_base.rstrip("/") + "/chat/completions"
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._prefill = prefill
        self._context_tokens, self._max_output_tokens = context_tokens, max_output_tokens
        self._timeout_s, self._connect_timeout_s = timeout_s, connect_timeout_s
        self._timeouts = Timeouts(timeout_s, stall_timeout_s)
        self._counter = counter
        self._session: aiohttp.ClientSession | None = None
        self._ask_for_usage = True
        self._max_tokens_field = "max_tokens"

    @property
    def name(self) -> str:
        """What clients ask for."""
        return self._name

    @property
    def can_prefill(self) -> bool:
        """Whether the server is configured to continue a given text."""
        return self._prefill is not False

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together."""
        return self._context_tokens

    @property
    def max_output_tokens(self) -> int:
        """Most tokens of an answer when the request does not say."""
        return self._max_output_tokens

    @property
    def timeouts(self) -> Timeouts:
        """As configured."""
        return self._timeouts

    async def close(self) -> None:
        """Gives up all connections; running streams end with `connection_lost`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished, None]:
        """See `ChatModel.stream`. One `Delta` holds all text of one network read."""
        check_can_prefill(request, self._prefill, self._name)
        plan = plan_continuation(request, max_output_tokens=self._max_output_tokens, counter=self._counter)
        if plan.max_tokens == 0:
            yield Finished("length", output_tokens=0)
            return
        reading = Reading(AnswerText(plan.cut))
        timeout_s = min(request.timeout_s, self._timeout_s)
        async with self._open(request, plan.sent, plan.max_tokens, timeout_s) as response:
            try:
                async with aclosing(_texts(response, reading, timeout_s)) as texts:
                    async for text in texts:
                        yield Delta(text)
                if rest := reading.text.flush():
                    yield Delta(rest)
                yield reading.finished()
                if reading.done:  # lets the connection be used again
                    with suppress(TimeoutError, aiohttp.ClientError):
                        async with asyncio.timeout(_DRAIN_S):
                            await response.content.read()
            finally:
                if not response.content.at_eof():
                    response.close()

    @asynccontextmanager
    async def _open(
        self, request: ChatRequest, sent: str, max_tokens: int, timeout_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        while True:
            body = self._body(request, sent, max_tokens)
            response = await self._post(body, timeout_s, request.traceparent)
            try:
                if response.status == 200:
                    await _check_streams(response)
                    yield response
                    return
                error_body = await _error_body(response)
            finally:
                response.release()
            if response.status != 400 or not self._understood(body, error_body):
                raise from_response(response.status, response.headers, error_body)

    async def _post(self, body: dict[str, Any], timeout_s: float, traceparent: str | None) -> aiohttp.ClientResponse:
        trace = {} if traceparent is None else {"traceparent": traceparent}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s, sock_read=timeout_s)
        try:
            return await self._open_session().post(
                self._url,
                data=msgspec.json.encode(body),
                headers=self._headers | {"Content-Type": "application/json"} | trace,
                timeout=timeout,
                allow_redirects=False,
            )
        except aiohttp.ConnectionTimeoutError:
            detail = f"no connection to {self._url} within {self._connect_timeout_s:g} s"
            raise ProviderError("timeout", detail, retryable=True) from None
        except TimeoutError:
            raise _timed_out(timeout_s) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _lost(self._url, error) from None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _body(self, request: ChatRequest, sent: str, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": wire_messages(request.messages, sent, self._prefill),
            "stream": True,
            self._max_tokens_field: max_tokens,
        }
        if self._ask_for_usage:
            body["stream_options"] = {"include_usage": True}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        return body | wire_options(sent, self._prefill)

    def _understood(self, body: dict[str, Any], error_body: bytes) -> bool:
        """Whether the 400 names a field that this server does not know and that is left out from now on."""
        if "stream_options" in body and b"stream_options" in error_body:
            self._ask_for_usage = False
            return True
        if "max_tokens" in body and b"max_completion_tokens" in error_body:
            self._max_tokens_field = "max_completion_tokens"
            return True
        return False


async def _texts(response: aiohttp.ClientResponse, reading: Reading, timeout_s: float) -> AsyncGenerator[str, None]:
    """Texts, one per network read, until the provider's own end. Raises: ProviderError."""
    rest = b""
    while not reading.done:
        data = await _read(response, reading, timeout_s)
        lines = (rest + data).split(b"\n")
        rest = lines.pop() if data else b""
        if len(rest) > _MAX_LINE_BYTES:
            raise ProviderError("protocol", f"a line of more than {_MAX_LINE_BYTES} bytes", retryable=False)
        text, error = reading.take_all(lines)
        if text:
            yield text
        if error is not None:
            raise error
        if not data:
            break
    if not reading.ended:
        raise ProviderError("connection_lost", "the stream ended without the provider's own end", retryable=True)


async def _read(response: aiohttp.ClientResponse, reading: Reading, timeout_s: float) -> bytes:
    """The next bytes; empty at the end, and for whatever goes wrong after the provider's own end."""
    try:
        if not reading.ended:
            return await response.content.readany()
        async with asyncio.timeout(_AFTER_END_S):  # only the usage is still to come
            return await response.content.readany()
    except TimeoutError:
        error = _timed_out(timeout_s)
    except (aiohttp.ClientError, OSError) as lost:
        error = _lost(str(response.url), lost)
    if reading.ended:
        return b""
    raise error


async def _check_streams(response: aiohttp.ClientResponse) -> None:
    if response.content_type != "application/json":
        return
    body = await _error_body(response)
    if b'"error"' in body[:4096]:
        raise from_response(500, response.headers, body)
    raise ProviderError("protocol", "the server answered without streaming (application/json)", retryable=False)


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(_MAX_ERROR_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b""


def _timed_out(timeout_s: float) -> ProviderError:
    return ProviderError("timeout", f"the provider was silent for {timeout_s:g} s", retryable=True)


def _lost(url: str, error: Exception) -> ProviderError:
    return ProviderError(
        "connection_lost", f"connection to {url}: {str(error) or type(error).__name__}", retryable=True
    )
