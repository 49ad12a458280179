from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from providers.failures import from_response, from_stream, retry_after_s


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (
            429,
            b'{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}',
            "rate_limited",
            True,
        ),
        (
            429,
            b'{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}',
            "rate_limited",
            False,
        ),
        (500, b"<html>oops</html>", "overloaded", True),
        (529, b"", "overloaded", True),
        (504, b"", "timeout", True),
        (401, b"", "auth", False),
        (400, b'{"error":{"message":"x","code":"context_length_exceeded"}}', "context_too_long", False),
        (
            400,
            b'{"object":"error","message":"This model\'s maximum context length is 4096"}',
            "context_too_long",
            False,
        ),
        (400, b'{"error":{"message":"x","code":"content_filter"}}', "content_filter", False),
        (413, b"", "context_too_long", False),
        (422, b'{"detail":"field"}', "bad_request", False),
        (307, b"", "bad_request", False),
        (400, b"[1]", "bad_request", False),
        (400, b"\xff\xfe", "bad_request", False),
        (400, b'{"error": null}', "bad_request", False),
    ],
)
def test_statuses(status: int, body: bytes, code: str, retryable: bool) -> None:
    error = from_response(status, {}, body)
    assert (error.code, error.retryable) == (code, retryable)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ({"message": "x", "code": 429}, "rate_limited", True),
        ({"message": "x", "code": "429"}, "rate_limited", True),
        ({"message": "x", "type": "rate_limit_error"}, "rate_limited", True),
        ({"message": "x", "type": "server_error"}, "overloaded", True),
        ({"message": "x", "code": "context_length_exceeded"}, "context_too_long", False),
        ({"message": "x", "type": "authentication_error"}, "auth", False),
        ("just text", "overloaded", True),
    ],
)
def test_errors_inside_a_stream(error: Any, code: str, retryable: bool) -> None:
    found = from_stream(error)
    assert (found.code, found.retryable) == (code, retryable)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("1.5") == 1.5
    assert retry_after_s("-3") == 0
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 28 < soon <= 30
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("soon") is None
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after_s("Wed, 21 Oct 2015 07:28:12 GMT", date=date) == 12, "by the server's clock, whatever ours says"
    assert from_response(503, {"Retry-After": "Wed, 21 Oct 2015 07:28:12 GMT", "Date": date}, b"").retry_after_s == 12
    assert retry_after_s(None) is None


def test_the_header_reaches_the_error() -> None:
    assert from_response(503, {"Retry-After": "9"}, b"").retry_after_s == 9
