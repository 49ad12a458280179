"""The edge's own writer of server-sent events (WHATWG HTML, §9.2): one write per wake-up, a quiet keep-alive.

The keep-alive is the comment `: hb` without a blank line after it: with one, openai-python fails on streams whose
events carry ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from producers.edge import frames
from producers.edge.asgi import Disconnected, RawHeaders, Receive, Send
from producers.edge.problems import Unavailable
from telemetry.metrics import STREAM_OPEN, STREAM_REFUSED

logger = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
MAX_STREAMS = 10_000
HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class EdgeStopping(Exception):  # noqa: N818 - a fact
    """The edge is about to end: the stream must say so and end too."""


class EventStream:
    """One open answer. Whoever has something for it calls `wake`."""

    def __init__(self, send: Send, *, now_s: float) -> None:
        self._send = send
        self._future: asyncio.Future[None] | None = None
        self._is_woken = False
        self._is_beat_due = False
        self._is_gone = False
        self._is_stopping = False
        self.last_write_s = now_s

    async def write(self, data: bytes) -> None:
        """Sends; waits while the client reads slower than the server writes."""
        self.last_write_s = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def wait(self) -> None:
        """Returns after the next `wake`; keeps the connection alive until then.

        Raises: Disconnected; EdgeStopping.
        """
        while True:
            if self._is_gone:
                raise Disconnected
            if self._is_stopping:
                raise EdgeStopping
            if self._is_beat_due:
                self._is_beat_due = False
                await self.write(b": hb\n")
                continue
            if self._is_woken:
                self._is_woken = False
                return
            self._future = asyncio.get_running_loop().create_future()
            await self._future

    def wake(self) -> None:
        """There may be something new."""
        self._is_woken = True
        self._rouse()

    def beat(self) -> None:
        """Nothing was written for long."""
        self._is_beat_due = True
        self._rouse()

    def leave(self) -> None:
        """The client has gone."""
        self._is_gone = True
        self._rouse()

    def stop(self) -> None:
        """The edge is about to end."""
        self._is_stopping = True
        self._rouse()

    def _rouse(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class OpenStreams:
    """Every open event stream of this process: at most so many, beats for the quiet, an end when the edge stops."""

    def __init__(self, *, max_streams: int = MAX_STREAMS, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._max_streams = max_streams
        self._n_seats = 0
        self._heartbeat_s = heartbeat_s
        self._streams: set[EventStream] = set()
        self._task: asyncio.Task[None] | None = None
        self._told: list[Callable[[], None]] = []
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._streams)

    def start(self) -> None:
        """Begins to beat."""
        self._task = asyncio.create_task(self._beat_forever(), name="keep-alives")

    async def stop(self) -> None:
        """No beats any more; the streams were told to end."""
        self.stop_streams()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stop_streams(self) -> None:
        """Every open stream ends with an error that says why; new ones at once."""
        self.is_stopping = True
        for stream in self._streams:
            stream.stop()
        for tell in self._told:
            tell()

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A place among the open streams, for as long as the block runs. Raises: Unavailable if all are taken."""
        if self._n_seats >= self._max_streams:
            STREAM_REFUSED.inc()
            detail = f"this edge keeps {self._max_streams} streams open and no more; ask another edge, or again soon"
            raise Unavailable("too_many_streams", detail)
        self._n_seats += 1
        try:
            yield
        finally:
            self._n_seats -= 1

    @contextmanager
    def on_stop(self, tell: Callable[[], None]) -> Iterator[None]:
        """Calls `tell` if the streams are stopped while the block runs: for long answers that are no streams."""
        self._told.append(tell)
        try:
            yield
        finally:
            self._told.remove(tell)

    @asynccontextmanager
    async def answer(self, receive: Receive, send: Send, *, headers: RawHeaders) -> AsyncIterator[EventStream]:
        """Sends the head, then the block's events; at its end the answer is complete.

        A client that has gone ends the block with Disconnected, which stays inside; EdgeStopping is told to the
        client as an `error` event.
        """
        stream = EventStream(send, now_s=asyncio.get_running_loop().time())
        if self.is_stopping:
            stream.stop()
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *headers]})
        watch = asyncio.create_task(_watch(receive, stream))
        self._streams.add(stream)
        STREAM_OPEN.inc()
        try:
            with contextlib.suppress(Disconnected):
                try:
                    yield stream
                except EdgeStopping:
                    text = "this edge stops; connect again with Last-Event-ID"
                    await stream.write(frames.failure("edge_stopping", text))
                except (Disconnected, asyncio.CancelledError):
                    raise
                except Exception:
                    logger.exception("an event stream failed")
                    text = "the edge failed; connect again with Last-Event-ID"
                    await stream.write(frames.failure("internal_error", text))
        finally:
            self._streams.discard(stream)
            STREAM_OPEN.dec()
            watch.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._heartbeat_s / 5))
            quiet_since = loop.time() - self._heartbeat_s
            for stream in self._streams:
                if stream.last_write_s <= quiet_since:
                    stream.beat()


async def _watch(receive: Receive, stream: EventStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.leave()
