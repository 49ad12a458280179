"""The load, in a process of its own: `python -m bench.load_client '{"what": "posts" | "streams" | "first" | …, …}'`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import uvloop

from bench.children import answer, asked
from bench.http_client import Connection, connect, get, post
from bench.measure import cpu_s, rss_bytes
from bench.stamping_provider import STAMP, now_us
from schemas.ids import new_id

Question = dict[str, Any]
EVENT_STREAM = "Accept: text/event-stream"
LAST_EVENTS = (b"event: completed", b"event: failed", b"event: cancelled", b"event: error")


async def _connections(question: Question, n: int) -> list[Connection]:
    return list(await asyncio.gather(*(connect(question["host"], question["port"]) for _ in range(n))))


async def _sessions(question: Question, connection: Connection, n: int) -> list[str]:
    found = []
    for _ in range(n):
        status, body = await connection.request(post("/api/v1/sessions", b'{"name": "bench"}', question["key"]))
        if status not in {201, 202}:
            raise RuntimeError(f"POST sessions: {status} {body[:300]!r}")
        found.append(str(json.loads(body)["id"]))
    return found


def _message(question: Question, session: str, *headers: str) -> bytes:
    body = json.dumps({key: question[key] for key in ("content", "model") if key in question}).encode()
    return post(f"/api/v1/sessions/{session}/messages", body, question["key"], *headers)


async def posts(question: Question) -> dict[str, object]:
    """Messages for `seconds` over `connections`: as fast as answered, or `rate` a second in all; milliseconds each.

    `sessions` 0: each message is for a session of its own that nobody has made (the edge does not ask).
    """
    connections = await _connections(question, question["connections"])
    n_sessions = question["sessions"]
    sessions = (
        await _sessions(question, connections[0], n_sessions) if n_sessions else [str(new_id()) for _ in range(512)]
    )
    requests = cycle([_message(question, session, *question.get("headers", ())) for session in sessions])
    found: list[float] = []
    statuses: Counter[int] = Counter()
    began_cpu, began = cpu_s(*question.get("pids", ())), time.perf_counter()
    until = began + question["seconds"]
    rate = question.get("rate", 0)

    async def one(connection: Connection, due: float) -> None:
        status, _ = await connection.request(next(requests))
        found.append((time.perf_counter() - due) * 1000)
        statuses[status] += 1

    async def client(number: int, connection: Connection) -> None:
        turn = number
        while (due := began + turn / rate if rate else time.perf_counter()) < until:
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await one(connection, due if rate else time.perf_counter())
            turn += len(connections)

    await asyncio.gather(*(client(number, one_) for number, one_ in enumerate(connections)))
    cpu = cpu_s(*question.get("pids", ())) - began_cpu
    return {"ms": found, "statuses": statuses, "cpu_s": cpu, "seconds": time.perf_counter() - began}


class _Reader:
    """One stream: the stamps in it, and when it began and ended."""

    def __init__(self, into: list[tuple[int, int]]) -> None:
        self._into = into
        self.ended_with = b""
        self.began = asyncio.Event()

    def line(self, line: bytes) -> bool:
        if line.startswith(b"data: "):
            stamps = STAMP.findall(line)
            if stamps:
                now = now_us()
                self._into.extend((int(stamp), now) for stamp in stamps)
                self.began.set()
        elif line.startswith(LAST_EVENTS):
            self.ended_with = line
            self.began.set()
            return True
        elif line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(line.decode())
        return False


async def streams(question: Question) -> dict[str, object]:
    """`streams` answers at once; once all have begun, `seconds` are measured: tokens, their way's time, CPU."""
    connections = await _connections(question, question["streams"])
    sessions = await _sessions(question, connections[0], question["streams"])
    arrivals: list[tuple[int, int]] = []
    readers = [_Reader(arrivals) for _ in connections]

    async def read(connection: Connection, session: str, reader: _Reader) -> None:
        await connection.lines(_message(question, session, EVENT_STREAM), reader.line)

    tasks = []
    for connection, session, reader in zip(connections, sessions, readers, strict=True):
        tasks.append(asyncio.create_task(read(connection, session, reader)))
        await asyncio.sleep(question["start_within_s"] / len(connections))
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.began.wait() for reader in readers))
    await asyncio.sleep(1)
    arrivals.clear()
    began_cpu, began = {role: cpu_s(*pids) for role, pids in question["pids"].items()}, time.perf_counter()
    await asyncio.sleep(question["seconds"])
    cpu = {role: cpu_s(*pids) - began_cpu[role] for role, pids in question["pids"].items()}
    seconds, seen = time.perf_counter() - began, list(arrivals)
    await asyncio.wait(tasks, timeout=question["ends_within_s"])
    ends = Counter(reader.ended_with.decode() for reader in readers)
    for connection in connections:
        connection.close()
    return {
        "ms": [(came - sent) / 1000 for sent, came in seen],
        "sent_ms": [sent / 1000 for sent, _ in seen],
        "n_tokens": len(seen),
        "seconds": seconds,
        "cpu_s": cpu,
        "ends": ends,
    }


async def first(question: Question) -> dict[str, object]:
    """Milliseconds from request to first text: `n` times, `at_once` starts each time, through us or directly."""
    connections = await _connections(question, question["at_once"])
    direct = question.get("direct", False)
    sessions = [] if direct else await _sessions(question, connections[0], question["at_once"])
    found: list[float] = []

    async def one(number: int) -> None:
        raw = _direct(question) if direct else _message(question, sessions[number], EVENT_STREAM)
        mark, last = (b'"content":"', (b"data: [DONE]",)) if direct else (b"event: delta", LAST_EVENTS)
        began, is_first = time.perf_counter(), True

        def line(one_line: bytes) -> bool:
            nonlocal is_first
            if is_first and mark in one_line:
                is_first = False
                found.append((time.perf_counter() - began) * 1000)
            return one_line.startswith(last)

        connection = await connect(question["host"], question["port"])
        try:
            began = time.perf_counter()
            await asyncio.wait_for(connection.lines(raw, line), 60)
        finally:
            connection.close()

    for _ in range(question["n"]):
        await asyncio.gather(*(one(number) for number in range(question["at_once"])))
    return {"ms": found}


async def converse(question: Question) -> dict[str, object]:
    """`sessions` new sessions, one question each, read to its end; over `connections` at once."""
    ends: Counter[str] = Counter()
    left = iter(range(question["sessions"]))

    async def client() -> None:
        connection = await connect(question["host"], question["port"])
        for _ in left:
            (session,) = await _sessions(question, connection, 1)
            reader = _Reader([])
            streaming = await connect(question["host"], question["port"])
            await streaming.lines(_message(question, session, EVENT_STREAM), reader.line)
            streaming.close()
            ends[reader.ended_with.decode()] += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(question["connections"])))
    return {"ends": ends}


async def idle(question: Question) -> dict[str, object]:
    """Opens `warm` event streams, then `streams` more; bytes of the server's process that one of these takes."""
    asked_for = get(question["path"], question["key"], EVENT_STREAM)
    open_: list[Connection] = []

    async def opened(n: int) -> int:
        for _ in range(n):
            open_.append(await connect(question["host"], question["port"]))
            await open_[-1].lines(asked_for, _has_begun)
        return rss_bytes(*question["pids"])

    before = await opened(question["warm"])
    grown = await opened(question["streams"]) - before
    if not all(connection.is_open for connection in open_):
        raise RuntimeError("idle: the server ended some of the streams")
    for connection in open_:
        connection.close()
    return {"bytes": grown / question["streams"]}


def _has_begun(line: bytes) -> bool:
    """At the first line of the answer, whose status must be 200."""
    if line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(line.decode())
    return True


def _direct(question: Question) -> bytes:
    messages: Sequence[dict[str, str]] = [{"role": "user", "content": question["content"]}]
    body = json.dumps({"model": "test", "messages": messages, "stream": True}).encode()
    return post("/v1/chat/completions", body, question["key"])


if __name__ == "__main__":
    QUESTION = asked()
    WHAT = {"posts": posts, "streams": streams, "first": first, "idle": idle, "converse": converse}[QUESTION["what"]]
    answer(QUESTION, uvloop.run(WHAT(QUESTION)))
