"""What a provider's refusal means: HTTP statuses and error bodies as `ProviderError`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from providers.ports import ProviderError

_TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "tokens per request",
    "maximum allowed batch size",
)
_FILTERED = ("content_filter", "content_policy", "responsibleaipolicy")
_MAX_DETAIL = 500


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error for an HTTP answer that is not 200. OpenAI's `{"error": {…}}` and plain text are understood."""
    message, code = _message_and_code(body)
    return from_status(
        status, message, code=code, retry_after_s=retry_after_s(headers.get("Retry-After"), date=headers.get("Date"))
    )


def from_stream(error: Any) -> ProviderError:
    """The error for an `{"error": …}` object inside a stream. Without a telling status it may pass: retryable."""
    message, code = _from_object(error)
    status = error.get("status", error.get("code")) if isinstance(error, dict) else None
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if isinstance(status, int) and 400 <= status <= 599:
        return from_status(status, message, code=code)
    named = {"rate_limit": 429, "insufficient_quota": 429, "authentication": 401, "permission": 403, "invalid": 400}
    guessed = next((number for part, number in named.items() if part in code), None)
    if guessed is None and _mentions(_TOO_LONG + _FILTERED, f"{code} {message}"):
        guessed = 400
    return from_status(guessed or 500, message, code=code)


def from_status(status: int, message: str, *, code: str = "", retry_after_s: float | None = None) -> ProviderError:
    """The error for a status, its text and the provider's own code."""
    said = f"{code} {message}".lower()
    detail = f"the provider answered {status}: {message[:_MAX_DETAIL] or 'no reason given'}"
    if status == 429:
        # An empty account is reported as 429 too; waiting does not fill it.
        retryable = "insufficient_quota" not in said
        return ProviderError("rate_limited", detail, retryable=retryable, retry_after_s=retry_after_s)
    if status in (401, 403):
        return ProviderError("auth", detail, retryable=False)
    if status in (408, 504):
        return ProviderError("timeout", detail, retryable=True, retry_after_s=retry_after_s)
    if status >= 500 or status in (409, 425):
        return ProviderError("overloaded", detail, retryable=True, retry_after_s=retry_after_s)
    if _mentions(_TOO_LONG, said) or status == 413:
        return ProviderError("context_too_long", detail, retryable=False)
    if _mentions(_FILTERED, said):
        return ProviderError("content_filter", detail, retryable=False)
    return ProviderError("bad_request", detail, retryable=False)


def retry_after_s(value: str | None, *, date: str | None = None) -> float | None:
    """Seconds from a `Retry-After` header (RFC 9110 §10.2.3: seconds or a date); None if absent or unreadable.

    A date is compared with the answer's own `Date`: the server's clock need not be this process's.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    at, now = _date(value), _date(date)
    if at is None:
        return None
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _message_and_code(body: bytes) -> tuple[str, str]:
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(text)
    except ValueError:
        return text, ""
    if isinstance(parsed, dict):
        return _from_object(parsed.get("error", parsed))
    return text, ""


def _from_object(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return str(error), ""
    message = error.get("message", error.get("detail", error))
    codes = (str(error[key]) for key in ("code", "type") if error.get(key) is not None)
    return str(message), " ".join(codes).lower()


def _mentions(parts: tuple[str, ...], text: str) -> bool:
    return any(part in text.lower() for part in parts)
