"""Requests and streams to any of a Ragline's edges: what one edge cannot answer now, another is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from ragline.client.errors import CutError, RefusedError, UnreachableError
from ragline.client.sse import SseDecoder, SseEvent
from ragline.client.target import Target

ViewT = TypeVar("ViewT", bound=BaseModel)

_BUSY = {502, 503, 504}
_UNKNOWN = 404
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_SILENCE_S = 45.0  # keep-alives come every 15 s


class _Nothing(BaseModel):
    """An answer in which nothing is looked for."""


class Connection:
    """One client of a target. Idempotent requests (GET, or with a key of their own) are repeated for `patience_s`."""

    def __init__(self, target: Target, *, patience_s: float = 20.0) -> None:
        self._urls = target.urls
        self._api_key = target.api_key
        self._patience_s = patience_s
        self._turn = 0
        self._has_reached = False
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._api_key}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=90.0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, view: type[ViewT]) -> ViewT:
        """The resource. Raises: RefusedError; UnreachableError."""
        return await self._exchange("GET", path, view, dict)

    async def post(self, path: str, view: type[ViewT], *, key: str, body: Callable[[], dict[str, Any]] = dict) -> ViewT:
        """What the POST led to. `body` gives aiohttp's `json=` or `data=` anew for each try, all under one key."""
        return await self._exchange("POST", path, view, body, {"Idempotency-Key": key})

    async def delete(self, path: str) -> None:
        """The resource goes; it may be gone already. Raises: RefusedError; UnreachableError."""
        try:
            await self._exchange("DELETE", path, _Nothing, dict)
        except RefusedError as error:
            if error.status != _UNKNOWN:
                raise

    async def _exchange(
        self,
        method: str,
        path: str,
        view: type[ViewT],
        body: Callable[[], dict[str, Any]],
        headers: dict[str, str] | None = None,
    ) -> ViewT:
        loop = asyncio.get_running_loop()
        deadline, pause_s, n_refused = loop.time() + self._patience_s, _FIRST_PAUSE_S, 0
        while True:
            url = self._url(path)
            try:
                async with self._session.request(method, url, headers=headers, **body()) as response:
                    self._has_reached = True
                    text = await response.read()
                    if response.status < 400:
                        return _viewed(view, text or b"{}", url)
                    failure: Exception = _refusal(response.status, text, url)
                    if response.status not in _BUSY:
                        raise failure
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                failure = self._unreachable(error)
                n_refused += isinstance(error, aiohttp.ClientConnectorError)
                if n_refused >= len(self._urls) and not self._has_reached:
                    raise failure from None  # nobody ever listened anywhere: waiting would only hide it
            if loop.time() + pause_s > deadline:
                raise failure from None
            self._turn += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def events(self, path: str) -> AsyncIterator[SseEvent]:
        """The stream's events over all its connections; goes on from the last event's id when one is cut.

        What was only just accepted may be unknown for a while, so a 404 before the first event is asked again. It never
        ends by itself: leave it at the terminal event. Raises: RefusedError; UnreachableError or CutError when for
        `patience_s` no connection brought anything new.
        """
        loop = asyncio.get_running_loop()
        last_id, is_known, failing_since, pause_s = "", False, 0.0, _FIRST_PAUSE_S
        while True:
            decoder, failure = SseDecoder(last_id), Exception()
            connected_at = loop.time()
            try:
                async for event in self._one_connection(path, decoder):
                    if event.id != last_id or not event.id:
                        failing_since, pause_s = 0.0, _FIRST_PAUSE_S
                    last_id, is_known = event.id, True
                    yield event
                failure = CutError(f"{self._url(path)} ended its stream too early, again and again")
            except RefusedError as error:
                if error.status not in _BUSY and (error.status != _UNKNOWN or is_known):
                    raise
                failure = error
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = self._unreachable(error)
            now = loop.time()
            failing_since = failing_since if failing_since and now - connected_at < self._patience_s else now
            if now - failing_since > self._patience_s:
                raise failure
            self._turn += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _one_connection(self, path: str, decoder: SseDecoder) -> AsyncIterator[SseEvent]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if decoder.last_event_id:
            headers["Last-Event-ID"] = decoder.last_event_id
        url = self._url(path)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_SILENCE_S)
        async with self._session.get(url, headers=headers, timeout=timeout) as response:
            if response.status >= 400:
                raise _refusal(response.status, await response.read(), url)
            async for piece in response.content.iter_any():
                for event in decoder.feed(piece):
                    yield event

    def _url(self, path: str) -> str:
        return self._urls[self._turn % len(self._urls)] + path

    def _unreachable(self, error: Exception) -> UnreachableError:
        tried = ", ".join(self._urls)
        reason = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError):
            return UnreachableError(f"no Ragline answers at {tried}; start it with `make dev`, or give --url")
        return UnreachableError(f"Ragline at {tried} went away ({reason}); look at its logs and try again")


def _viewed(view: type[ViewT], text: bytes, url: str) -> ViewT:
    try:
        return view.model_validate_json(text, extra="ignore")
    except ValidationError:
        raise UnreachableError(f"{url} answered something that is not Ragline's; look at the address") from None


def _refusal(status: int, text: bytes, url: str) -> Exception:
    try:
        problem = json.loads(text)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return RefusedError(status, "", f"{url} answered with status {status} and without a reason")
    if status == 401:
        return UnreachableError("the server does not know this API key; give another with --api-key")
    field = f"{problem['field']}: " if problem.get("field") and not detail.startswith(str(problem["field"])) else ""
    return RefusedError(status, code, field + detail, problem)
