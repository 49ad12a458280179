"""Chat models through litellm: every provider that does not speak OpenAI's protocol itself.

litellm is imported at the first use (`litellm_calls`), so that a process whose models need none never pays for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from providers.litellm_calls import asked, check_is_known, close_connections, load
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
        try:
            await check_is_known(self._model, api_base=self._credentials.get("api_base"))
        except ValueError as error:
            raise ValueError(f'model "{self._name}": {error}') from None

    async def close(self) -> None:
        """Gives up litellm's connections (they are shared by all its models)."""
        if self._used:
            await close_connections()

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
        litellm = await load()
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
            **({"extra_headers": {"traceparent": request.traceparent}} if request.traceparent is not None else {}),
            **({"temperature": request.temperature} if request.temperature is not None else {}),
        }
        return await asked(lambda: litellm.acompletion(**parameters), timeout_s)


async def _next(chunks: Any, timeout_s: float) -> Any:
    """The next chunk, or None at the end. Raises: ProviderError."""

    async def pull() -> Any:
        return await anext(chunks, None)

    return await asked(pull, timeout_s)


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
