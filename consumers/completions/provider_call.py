"""The call of a provider as one step of its message's trace; nothing a chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from providers.ports import Finished, ProviderError
from telemetry.tracing import begin


@dataclass(slots=True)
class ProviderCall:
    """One call; `traceparent` is what the provider is told, None while nothing is traced."""

    traceparent: str | None
    finished: Finished | None = None


@contextmanager
def provider_call(model: str, parent: str | None) -> Iterator[ProviderCall]:
    """The block is the call. Attributes by OpenTelemetry's conventions for generative models: names and counts."""
    span = None
    if parent is not None:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        span = begin(f"chat {model}", parent=parent, kind="client", attributes=attributes)
    call = ProviderCall(None if span is None else span.traceparent)
    error: str | None = "interrupted"
    try:
        yield call
        error = None
    except ProviderError as failed:
        error = failed.code
        raise
    finally:
        if span is not None:
            span.end(_counts(call.finished), error=error)


def _counts(finished: Finished | None) -> dict[str, str | int]:
    if finished is None:
        return {}
    counts = {
        "gen_ai.usage.input_tokens": finished.input_tokens or 0,
        "gen_ai.usage.output_tokens": finished.output_tokens or 0,
    }
    return {"gen_ai.response.finish_reason": finished.finish_reason, **counts}
