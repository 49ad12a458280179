"""A client as one should be: repeats its POST under the same key, resumes its stream on any edge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ragline.client.sse import SseDecoder
from tests.chaos.reading import History, Reading

PATIENCE_S = 90.0
_PAUSE_S = (0.1, 0.6)
_AWAY = {502, 503, 504}
_REQUEST_S = 12.0


class GaveUpError(Exception):
    """For `PATIENCE_S` nothing worked, or an answer was none of those that are promised."""


class _Cut(Exception):  # noqa: N818 - a fact
    """The reader itself leaves, to come back elsewhere."""


@dataclass(slots=True)
class Reach:
    """The edges, the run's own time, and after how long without a byte a reader tries another connection."""

    session: aiohttp.ClientSession
    urls: Sequence[str]
    now_s: Callable[[], float]
    silence_s: float = 8.0
    statuses: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """One more answer or failure of this kind."""
        self.statuses[what] = self.statuses.get(what, 0) + 1


async def exchange(
    reach: Reach,
    rng: random.Random,
    history: History,
    method: str,
    path: str,
    *,
    expected: set[int],
    body: dict[str, Any] | None = None,
    key: str | None = None,
) -> tuple[int, Any]:
    """Status and JSON of an answer with one of the expected statuses. Raises: GaveUpError."""
    until_s = reach.now_s() + PATIENCE_S
    headers = {"Idempotency-Key": key} if key else {}
    while True:
        url = rng.choice(reach.urls)
        try:
            async with reach.session.request(
                method, url + path, json=body, headers=headers, timeout=aiohttp.ClientTimeout(_REQUEST_S)
            ) as response:
                said = await response.json(content_type=None) if response.status != 204 else None
            outcome = f"{method} {response.status}"
            if response.status in expected:
                reach.count(outcome)
                history.tell(reach.now_s(), f"{method} {path} on {url[-5:]}: {response.status}")
                return response.status, said
            if response.status not in _AWAY:
                raise GaveUpError(f"{method} {path}: {response.status} {said}")
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = f"{method} {type(error).__name__}"
        reach.count(outcome)
        history.tell(reach.now_s(), f"{method} {path} on {url[-5:]}: {outcome}; again")
        if reach.now_s() > until_s:
            raise GaveUpError(f"{method} {path}: nothing but {outcome} for {PATIENCE_S} s")
        await asyncio.sleep(rng.uniform(*_PAUSE_S))


async def read_stream(
    reach: Reach,
    rng: random.Random,
    reading: Reading,
    path: str,
    *,
    cuts: bool,
    may_vanish: bool = False,
    on_text: Callable[[int], None] = lambda _: None,
) -> None:
    """Reads to the terminal event; with `cuts`, leaves at random and resumes on a random edge.

    `may_vanish`: its session is being deleted, so that a 404 is an end too. Raises: GaveUpError.
    """
    news_s = reach.now_s()
    while not reading.is_over():
        url, before, n_errors = rng.choice(reach.urls), reading.last_id, len(reading.errors)
        leave_after = rng.randint(1, 90) if cuts and rng.random() < 0.6 else -1
        pause_s = rng.uniform(*_PAUSE_S)
        reading.n_connections += 1
        try:
            status = await _connection(reach, reading, url + path, leave_after, on_text)
            why = f"status {status}" if status != 200 else "ended"
            if status == 404 and may_vanish and reading.is_known:
                reading.history.tell(reach.now_s(), "404: it was deleted")
                return
            if status == 200 and not reading.is_over() and len(reading.errors) == n_errors:
                reading.fault(reach.now_s(), "the stream ended without a terminal event")
            elif status not in {200, *_AWAY} and (status != 404 or reading.is_known):
                raise GaveUpError(f"stream: status {status}")
        except _Cut:
            why, pause_s = "left", 0.0
        except (aiohttp.ClientError, TimeoutError) as error:
            why = type(error).__name__
        reach.count(f"stream {why}")
        reading.history.tell(reach.now_s(), f"connection to {url[-5:]}: {why}; have {reading.last_id or 'nothing'}")
        news_s = reach.now_s() if reading.last_id != before else news_s
        if reach.now_s() - news_s > PATIENCE_S:
            raise GaveUpError(f"stream: nothing new for {PATIENCE_S} s ({why})")
        if not reading.is_over():
            await asyncio.sleep(pause_s)


async def _connection(
    reach: Reach, reading: Reading, url: str, leave_after: int, on_text: Callable[[int], None]
) -> int:
    """One connection, read to its end; its status. Raises: _Cut."""
    decoder = SseDecoder(reading.last_id)
    headers = {"Last-Event-ID": reading.last_id} if reading.last_id else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=3.0, sock_read=reach.silence_s)
    async with reach.session.get(url, headers=headers, timeout=timeout) as response:
        if response.status != 200:
            return response.status
        n_events, known_id = 0, reading.last_id
        async for piece in response.content.iter_any():
            for event in decoder.feed(piece):
                reading.take(event, event.id if event.id != known_id else "", reach.now_s())
                known_id = event.id
                n_events += 1
                on_text(len(reading.text))
                if n_events == leave_after and not reading.is_over():
                    raise _Cut
    return 200
