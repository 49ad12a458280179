"""Any number of readers, on any edge, at any time; slow ones cost a bounded memory, and there is a defined limit."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from producers.edge.app import EdgeLimits
from producers.edge.channel import MAX_WRITE_BYTES
from ragline.client.sse import SseDecoder, SseEvent
from ragline.dev_stack.embedded import EmbeddedServers
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import upload
from tests.integration.edge.test_messages import end_in_postgres, new_session
from tests.integration.edge.test_streams import all_of, asked, forget_before, reading
from tests.integration.edge.world import Person, RunningEdge, Sent, eventually, running_edge, shown

pytestmark = pytest.mark.usefixtures("consumers")


async def test_readers_of_two_edges_hold_the_same_whenever_they_came(
    edge: RunningEdge,
    servers: EmbeddedServers,
    somebody: Person,
    producer: LogProducer,
    database: Database,
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path))
        )
        here, there = [await stack.enter_async_context(one.client(somebody)) for one in (edge, other)]
        writer = await asked(here, producer, somebody)
        readers: list[asyncio.Task[list[Sent]]] = []

        def join() -> None:
            readers.extend(asyncio.create_task(all_of(client, writer.id)) for client in (here, there) for _ in range(5))

        join()
        first = await writer.open()
        for i in range(20):
            if i == 10:
                join()
            await writer.write(f"{i} ")
        await writer.finish()
        join()
        found = await asyncio.gather(*readers)
        assert {shown(events) for events in found} == {writer.text}
        assert len({[event.id for event in events][-1] for events in found}) == 1
        await end_in_postgres(database, str(writer.id), "complete", writer.text)
        await forget_before(servers, writer.id, first + 10)
        fresh = await stack.enter_async_context(
            running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path))
        )
        for one in (edge, other, fresh):
            async with one.client(somebody) as client:
                long_after = await all_of(client, writer.id)
            assert shown(long_after) == writer.text
            assert long_after[-1].id == found[0][-1].id


class Slow:
    """A reader on a plain socket that takes nothing until it is told to."""

    def __init__(self, edge: RunningEdge, who: Person, path: str) -> None:
        address = urlsplit(edge.base_url)
        self._request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.key}\r\n\r\n".encode()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        self._address = (address.hostname, address.port)

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        await loop.sock_sendall(self._socket, self._request)

    async def read_on(self) -> str:
        """The text, read to the end."""
        loop, decoder, text = asyncio.get_running_loop(), SseDecoder(), ""
        raw = b""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while not raw.endswith(b"0\r\n\r\n"):
            piece = await loop.sock_recv(self._socket, 1 << 20)
            assert piece
            raw += piece
        self._socket.close()
        for event in decoder.feed(_unchunked(raw.partition(b"\r\n\r\n")[2])):
            text += _text(event)
        return text


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        head = body.index(b"\r\n", at)
        size = int(body[at:head], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[head + 2 : head + 2 + size])
        at = head + 2 + size + 2


def _text(event: SseEvent) -> str:
    return str(json.loads(event.data)["text"]) if event.event == "delta" else ""


async def test_slow_readers_hold_a_bounded_memory_and_nobody_up(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        path = f"/api/v1/completions/{writer.id}/stream"
        early, late = ([Slow(edge, somebody, path) for _ in range(4)] for _ in range(2))
        for one in early:
            await one.ask()
        fast = asyncio.create_task(all_of(client, writer.id))
        await writer.open()
        for i in range(80):
            await writer.write(f"{i:4} " * 20_000)
        for one in late:
            await one.ask()
        await writer.finish()
        assert shown(await fast) == writer.text

        async def all_are_served() -> bool:
            return len(edge.edge._running.streams) == len(early) + len(late)

        await eventually(all_are_served)
        await client.get("/api/v1/sessions")
        buffered = [connection.transport.get_write_buffer_size() for connection in edge.server.server_state.connections]
        assert 0 < max(buffered) <= 4 * MAX_WRITE_BYTES
        texts = await asyncio.gather(*(one.read_on() for one in (*early, *late)))
        assert set(texts) == {writer.text}


async def test_beyond_its_limit_an_edge_refuses_streams_and_nothing_else(
    servers: EmbeddedServers, somebody: Person, producer: LogProducer, database: Database, tmp_path: Path
) -> None:
    limits = EdgeLimits(max_streams=3)
    async with (
        running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path), limits) as small,
        small.client(somebody) as client,
        AsyncExitStack() as open_streams,
    ):
        writer = await asked(client, producer, somebody)
        session_id = await new_session(client)
        document_id = (await upload(client)).json()["id"]
        held = [await open_streams.enter_async_context(reading(client, writer.id)) for _ in range(3)]
        for stream in held:
            await anext(stream)
        messages, sse = f"/api/v1/sessions/{session_id}/messages", {"accept": "text/event-stream"}
        refused = [
            await client.get(f"/api/v1/completions/{writer.id}/stream"),
            await client.get(f"/api/v1/documents/{document_id}/events"),
            await client.get("/api/v1/events", headers=sse),
            await client.post(messages, json={"content": "q"}, headers=sse),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
            assert answer.headers["retry-after"] == "1"
        assert (await client.get(messages)).json()["items"] == [], "what is refused is not posted"
        assert (await client.post(messages, json={"content": "q"})).status_code == 202
        await open_streams.aclose()

        async def there_is_room() -> bool:
            async with client.stream("GET", f"/api/v1/completions/{writer.id}/stream") as response:
                return response.status_code == 200

        await eventually(there_is_room)
