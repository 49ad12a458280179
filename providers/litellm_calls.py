"""Calls through litellm: the only import of it, and what its errors mean."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any

from providers.clean_text import clean
from providers.failures import from_status, retry_after_s
from providers.ports import ProviderError

_LOST = {"APIConnectionError", "RemoteProtocolError", "ReadError", "ConnectError", "ClientConnectorError"}


async def load() -> Any:
    """litellm, imported off the loop at the first use: that takes seconds."""
    return await asyncio.to_thread(_litellm)


async def check_is_known(model: str, *, api_base: str | None) -> None:
    """Raises: ValueError if litellm does not know whose model it is."""
    litellm = await load()
    try:
        litellm.get_llm_provider(model=model, api_base=api_base)
    except litellm.exceptions.BadRequestError:
        raise ValueError(
            f'litellm knows no provider for "{model}"; write PROVIDER/MODEL as in openai/gpt-4o-mini'
        ) from None


async def close_connections() -> None:
    """Gives up litellm's connections: they are shared by all its models."""
    await (await load()).close_litellm_async_clients()


def _litellm() -> Any:
    # litellm downloads its price table while it is imported unless this stands in the environment;
    # it reads it nowhere else, so this is the one place that writes the environment.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.DEFAULT_MAX_RETRIES = 0  # where embeddings are asked for no retries they take this
    return litellm


async def asked(call: Callable[[], Any], timeout_s: float) -> Any:
    """What the call gives within `timeout_s`. Raises: ProviderError."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call()
    except TimeoutError:
        raise ProviderError("timeout", f"the provider was silent for {timeout_s:g} s", retryable=True) from None
    except Exception as error:  # noqa: BLE001 - litellm passes on whatever a provider's library raises
        raise _provider_error(error) from None


def bounded_client(litellm: Any, *, max_bytes: int, timeout_s: float) -> Any:
    """A client for litellm's calls that gives up an answer of more than `max_bytes`; close it with `close`."""
    from providers.bounded_answers import bounds

    return litellm.llms.custom_httpx.http_handler.AsyncHTTPHandler(timeout=timeout_s, event_hooks=bounds(max_bytes))


def _provider_error(error: Exception) -> ProviderError:
    """litellm wraps what happened several times: the innermost cause that says something counts."""
    causes = _causes(error)
    if (own := next((cause for cause in causes if isinstance(cause, ProviderError)), None)) is not None:
        return own
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
