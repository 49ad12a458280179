"""Event streams: quiet keep-alives, one end, and no stream that just stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from producers.edge.asgi import Message
from producers.edge.problems import Unavailable
from producers.edge.sse import EventStream, OpenStreams


class Connection:
    """A client that stays until told to leave."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def run(streams: OpenStreams, connection: Connection, block: Any) -> None:
    async with streams.answer(connection.receive, connection.send, headers=[]) as stream:
        await block(stream)


async def test_an_answer_begins_and_ends_once() -> None:
    streams, connection = OpenStreams(), Connection()

    async def block(stream: EventStream) -> None:
        assert len(streams) == 1
        await stream.write(b"a")
        stream.wake()
        await stream.wait()

    await run(streams, connection, block)
    assert [m["type"] for m in connection.sent] == ["http.response.start", "http.response.body", "http.response.body"]
    assert [m.get("more_body") for m in connection.sent[1:]] == [True, False]
    assert len(streams) == 0


def test_there_are_so_many_places_and_each_is_free_again() -> None:
    streams = OpenStreams(max_streams=2)
    with streams.seat():
        with streams.seat(), pytest.raises(Unavailable, match="keeps 2 streams open"), streams.seat():
            raise AssertionError
        with streams.seat():
            pass


async def test_a_quiet_stream_is_kept_alive_by_a_line_without_a_blank_one() -> None:
    streams, connection = OpenStreams(heartbeat_s=0.02), Connection()
    streams.start()
    task = asyncio.create_task(run(streams, connection, lambda stream: stream.wait()))
    async with asyncio.timeout(5):
        while connection.body.count(b": hb\n") < 3:
            await asyncio.sleep(0.005)
    connection.gone.set()
    await task
    await streams.stop()
    assert set(connection.body.split(b"\n")) == {b": hb", b""}
    assert b"\n\n" not in connection.body


async def test_a_client_that_leaves_ends_the_block() -> None:
    streams, connection = OpenStreams(), Connection()
    task = asyncio.create_task(run(streams, connection, lambda stream: stream.wait()))
    await asyncio.sleep(0)
    connection.gone.set()
    await asyncio.wait_for(task, 5)
    assert len(streams) == 0


async def test_a_stopping_edge_says_so() -> None:
    streams, connection = OpenStreams(), Connection()
    task = asyncio.create_task(run(streams, connection, lambda stream: stream.wait()))
    await asyncio.sleep(0)
    streams.stop_streams()
    await asyncio.wait_for(task, 5)
    assert b'event: error\ndata: {"code":"edge_stopping"' in connection.body
    late = Connection()
    await run(streams, late, lambda stream: stream.wait())
    assert b"edge_stopping" in late.body


async def test_a_bug_ends_a_stream_with_an_error_event() -> None:
    streams, connection = OpenStreams(), Connection()

    async def block(_: EventStream) -> None:
        raise ZeroDivisionError

    await run(streams, connection, block)
    assert b'event: error\ndata: {"code":"internal_error"' in connection.body
    assert connection.sent[-1].get("more_body") is False
