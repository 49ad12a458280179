"""Errors as `application/problem+json` (RFC 9457): the one renderer of the native API."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import responses

import orjson

from producers.edge.asgi import RawHeaders
from schemas.errors import Reject, Retry

RETRY_AFTER_S = 1


class Unavailable(Reject):
    """Something that the edge needs is away: 503, the same request may succeed soon.

    `may_repeat`: it can be repeated without a thought; otherwise it may have taken effect already.
    """

    def __init__(self, code: str, detail: str, *, may_repeat: bool = True) -> None:
        super().__init__(code, 503, detail)
        self.may_repeat = may_repeat


def log_unavailable(*, may_repeat: bool = True) -> Unavailable:
    """The broker did not acknowledge in time. The record may still land: the same Idempotency-Key joins it."""
    if may_repeat:
        return Unavailable("log_unavailable", "Kafka did not acknowledge in time; repeat the request")
    detail = "Kafka did not acknowledge in time, and the request may still take effect; send an Idempotency-Key"
    return Unavailable("log_unavailable", f"{detail} with requests that you want to repeat", may_repeat=False)


def database_unavailable() -> Unavailable:
    """PostgreSQL did not answer."""
    return Unavailable("database_unavailable", "PostgreSQL does not answer; repeat the request soon")


def unauthorized() -> Reject:
    """No key, or one that nobody has."""
    return Reject("unauthorized", 401, "send a valid API key as Authorization: Bearer <64 hex characters>")


def not_found(what: str) -> Reject:
    """The same for what is foreign as for what does not exist."""
    return Reject(f"{what}_not_found", 404, f"there is no such {what}")


def too_large(limit_bytes: int, *, field: str | None = None) -> Reject:
    """A body beyond its limit."""
    return Reject("too_large", 413, f"at most {limit_bytes} bytes are taken", field=field, limit=limit_bytes)


def as_reject(error: Reject | Retry) -> Reject:
    """What the caller is told of an error of the project's own."""
    if isinstance(error, Reject):
        return error
    return Unavailable("unavailable", "something that this needs is away; repeat the request soon")


def problem_body(reject: Reject, request_id: str) -> bytes:
    """The problem's JSON. Extra members never hide the standard ones."""
    body: dict[str, object] = dict(reject.extra)
    body |= {
        "type": f"urn:ragline:problem:{reject.code}",
        "title": responses.get(reject.status, "Error"),
        "status": reject.status,
        "detail": reject.detail,
        "code": reject.code,
        "request_id": request_id,
    }
    if reject.field is not None:
        body["field"] = reject.field
    return orjson.dumps(body)


def problem_headers(reject: Reject, extra: Mapping[str, str] | None = None) -> RawHeaders:
    """The headers that go with it.

    OpenAI's clients repeat every 408, 409, 429 and 5xx on their own: `x-should-retry: false` stops them.
    """
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if reject.status in {429, 503}:
        headers.append((b"retry-after", b"%d" % int(reject.extra.get("retry_after_s", RETRY_AFTER_S))))
    if not _may_be_repeated(reject):
        headers.append((b"x-should-retry", b"false"))
    if reject.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.extend((name.encode(), value.encode()) for name, value in (extra or {}).items())
    return headers


def _may_be_repeated(reject: Reject) -> bool:
    """A conflict stays one; what failed inside, or is on its way without a key, may take effect twice."""
    if isinstance(reject, Unavailable):
        return reject.may_repeat
    return reject.status not in {409, 500}
