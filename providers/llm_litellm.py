"""Chat models through litellm: every provider that does not speak OpenAI's protocol itself.

The only import of litellm, made at the first use (seconds) and in a thread, so that a process
whose models need none never pays for it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

from providers.clean_text import clean
from providers.failures import from_status, retry_after_s
from providers.ports import ChatRequest, Delta, Finished, ProviderError, Timeouts, TokenCounter
from providers.prefill import (
    AnswerText,
    Continuation,
    PrefillMode,
    check_can_prefill,
    plan_continuation,
    wire_messages,
    wire_options,
)

_LOST = {"APIConnectionError", "RemoteProtocolError", "ReadError", "ConnectError", "ClientConnectorError"}


class LiteLLMChatModel:
    """`ChatModel` over `litellm.acompletion`; litellm's own retries are off.

    `model` is litellm's name (`anthropic/claude-…`). `timeout_s` bounds the wait between two pieces of
    the stream, as does `ChatRequest.timeout_s`: the smaller counts.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_base: str | None = None,
        api_key: str | None = None,
        prefill: PrefillMode = False,
        context_tokens: int = 8192,
        max_output_tokens: int = 2048,
        timeout_s: float = 120.0,
        stall_timeout_s: float = 30.0,
        counter: TokenCounter,
    ) -> None:
        self._name, self._model = name, model
        self._credentials = {k: v for k, v in (("api_base", api_base), ("api_key", api_key)) if v is not None}
        self._prefill = prefill
        self._context_tokens, self._max_output_tokens = context_tokens, max_output_tokens
        self._timeout_s = timeout_s
        self._timeouts = Timeouts(timeout_s, stall_timeout_s)
        self._counter = counter
        self._used = False

    @property
    def name(self) -> str:
        """What clients ask for."""
        return self._name

    @property
    def can_prefill(self) -> bool:
        """Whether the model is configured to continue a given text."""
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

    async def start(self) -> None:
        """Imports litellm, off the loop; afterwards the first call is as fast as any.

        Raises: ValueError if litellm does not know whose model it is.
        """
        litellm = await asyncio.to_thread(import_litellm)
        try:
            litellm.get_llm_provider(model=self._model, api_base=self._credentials.get("api_base"))
        except litellm.exceptions.BadRequestError:
            raise ValueError(
                f'model "{self._name}": litellm knows no provider for "{self._model}";'
                " write PROVIDER/MODEL as in openai/gpt-4o-mini"
            ) from None

    async def close(self) -> None:
        """Gives up litellm's connections (they are shared by all its models)."""
        if self._used:
            await (await asyncio.to_thread(import_litellm)).close_litellm_async_clients()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta | Finished, None]:
        """See `ChatModel.stream`."""
        check_can_prefill(request, self._prefill, self._name)
        plan = plan_continuation(request, max_output_tokens=self._max_output_tokens, counter=self._counter)
        if plan.max_tokens == 0:
            yield Finished("length", output_tokens=0)
            return
        text = AnswerText(plan.cut)
        timeout_s = min(request.timeout_s, self._timeout_s)
        chunks = await self._open(request, plan, timeout_s)
        usage: Any = None
        try:
            while (chunk := await _next(chunks, timeout_s)) is not None:
                usage = getattr(chunk, "usage", None) or usage
                if piece := text.feed(_content(chunk)):
                    yield Delta(piece)
            if rest := text.flush():
                yield Delta(rest)
            yield _finished(chunks, usage)
        finally:
            await chunks.aclose()

    async def _open(self, request: ChatRequest, plan: Continuation, timeout_s: float) -> Any:
        litellm = await asyncio.to_thread(import_litellm)
        self._used = True
        options = wire_options(plan.sent, self._prefill)
        parameters: dict[str, Any] = {
            "model": self._model,
            "messages": wire_messages(request.messages, plan.sent, self._prefill),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": plan.max_tokens,
            "timeout": timeout_s,
            "max_retries": 0,
            "num_retries": 0,
            "drop_params": True,
            **self._credentials,
            **({"extra_body": options} if options else {}),
            **({"temperature": request.temperature} if request.temperature is not None else {}),
        }
        return await asked(lambda: litellm.acompletion(**parameters), timeout_s)


def import_litellm() -> Any:
    """The library; the first time takes seconds, so call it in a thread."""
    # litellm downloads its price table while it is imported unless this stands in the environment;
    # it reads it nowhere else, so this is the one place that writes the environment.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


async def _next(chunks: Any, timeout_s: float) -> Any:
    """The next chunk, or None at the end. Raises: ProviderError."""

    async def pull() -> Any:
        return await anext(chunks, None)

    return await asked(pull, timeout_s)


async def asked(call: Callable[[], Any], timeout_s: float) -> Any:
    """What `call` returns. Raises: ProviderError for whatever litellm raises, and for silence."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call()
    except TimeoutError:
        raise ProviderError("timeout", f"the provider was silent for {timeout_s:g} s", retryable=True) from None
    except Exception as error:  # noqa: BLE001 - litellm passes on whatever a provider's library raises
        raise _provider_error(error) from None


def _content(chunk: Any) -> str:
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    content = getattr(delta, "content", None)
    return content if isinstance(content, str) else ""


def _finished(chunks: Any, usage: Any) -> Finished:
    # litellm makes up a finish_reason "stop" when a stream just ends: only what it received counts.
    reason = chunks.received_finish_reason or chunks.intermittent_finish_reason
    if reason is None:
        raise ProviderError("connection_lost", "the stream ended without the provider's own end", retryable=True)
    return Finished(
        str(reason), getattr(usage, "prompt_tokens", None) or None, getattr(usage, "completion_tokens", None) or None
    )


def _provider_error(error: Exception) -> ProviderError:
    """litellm wraps what happened several times: the innermost cause that says something counts."""
    causes = _causes(error)
    kinds = {type(cause).__name__ for cause in causes}
    message = clean(str(causes[0]))
    if any("Timeout" in kind for kind in kinds):
        return ProviderError("timeout", message[:500], retryable=True)
    if kinds & _LOST:
        return ProviderError("connection_lost", message[:500], retryable=True)
    if "ContextWindowExceededError" in kinds:
        return ProviderError("context_too_long", message[:500], retryable=False)
    if "ContentPolicyViolationError" in kinds:
        return ProviderError("content_filter", message[:500], retryable=False)
    status = _first(causes, lambda cause: getattr(cause, "status_code", None))
    if not isinstance(status, int):
        return ProviderError("protocol", f"{type(causes[0]).__name__}: {message[:500]}", retryable=True)
    body = _first(causes, lambda cause: getattr(cause, "body", None))
    code = f"{body.get('code')} {body.get('type')}" if isinstance(body, dict) else ""
    headers = _first(causes, lambda cause: getattr(getattr(cause, "response", None), "headers", None)) or {}
    return from_status(
        status, message, code=code, retry_after_s=retry_after_s(headers.get("retry-after"), date=headers.get("date"))
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first; a wrapper for fallbacks is left out."""
    found: list[BaseException] = []
    current: BaseException | None = getattr(error, "original_exception", None) or error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _first(causes: list[BaseException], look: Callable[[BaseException], Any]) -> Any:
    return next((value for value in map(look, causes) if value), None)
