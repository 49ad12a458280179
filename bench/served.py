"""What a running stack spends on one unit of each line's work: CPU µs of its edge and worker, with all below them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from bench.first_token import CONTENT as ANSWERED
from bench.http_client import connect, post
from bench.ingest import Files
from bench.persisted import CONTENT
from bench.stack import Stack
from bench.texts import english_words
from ragline.client.connection import Connection
from ragline.client.target import Target

POSTS_S, POSTS_PER_S, N_BURSTS, AT_ONCE = 4.0, 50, 8, 40
STREAMS, RATE, STREAMS_START_S, STREAMS_S = 200, 10.0, 2.0, 5.0
N_FILES, N_PAGES, N_SEARCHES = 3, 60, 400


class Served:
    """A stack under one kind of work after the other."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        host, port = stack.address
        self._connection = Connection(Target((f"http://{host}:{port}",), stack.api_key))
        self._files = Files(folder, self._connection)

    async def __aenter__(self) -> Served:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, at)

    async def post_us(self) -> float:
        """A message that is applied, and answered with one token."""
        began = self._cpu_s()
        told = await self._ask(
            what="posts", content=f"{CONTENT} [[n_tokens=1]]", sessions=64, seconds=POSTS_S, connections=32,
            rate=POSTS_PER_S,
        )  # fmt: skip
        return (self._cpu_s() - began) / len(told["ms"]) * 1e6

    async def answer_us(self) -> float:
        """An answer of some tokens, streamed from its start; forty start at once."""
        began = self._cpu_s()
        await self._ask(what="first", content=ANSWERED, n=N_BURSTS, at_once=AT_ONCE)
        return (self._cpu_s() - began) / (N_BURSTS * AT_ONCE) * 1e6

    async def token_us(self) -> float:
        """A token of one of many streams."""
        told = await self._ask(
            what="streams", model="stamping", streams=STREAMS,
            content=f"rate={RATE} n={int(RATE * (STREAMS_START_S + STREAMS_S + 3))}",
            start_within_s=STREAMS_START_S, seconds=STREAMS_S, ends_within_s=30,
            pids={role: self._stack.pids(role) for role in ("edge", "worker")},
        )  # fmt: skip
        return float(sum(told["cpu_s"].values()) / told["n_tokens"] * 1e6)

    async def passage_us(self) -> float:
        """A passage of an uploaded file, until it can be searched."""
        paths = await asyncio.to_thread(self._files.make, N_FILES, N_PAGES)
        began = self._cpu_s()
        n_passages = await self._files.upload(paths)
        return (self._cpu_s() - began) / n_passages * 1e6

    async def search_us(self) -> float:
        """A hybrid search of what has been uploaded."""
        words, connection = english_words(), await connect(*self._stack.address)
        began = self._cpu_s()
        for n in range(N_SEARCHES):
            body = json.dumps({"query": " ".join(words[n * 7 : n * 7 + 4])}).encode()
            status, text = await connection.request(post("/api/v1/search", body, self._stack.api_key))
            if status != 200:
                raise RuntimeError(f"POST search: {status} {text[:300]!r}")
        took = self._cpu_s() - began
        connection.close()
        return took / N_SEARCHES * 1e6

    async def accept_us(self) -> float:
        """A message that is accepted, while nobody applies it."""
        with self._stack.paused("worker", "relay"):
            began = self._cpu_s()
            told = await self._ask(
                what="posts", content=CONTENT, sessions=0, seconds=POSTS_S, connections=16,
                headers=["Prefer: respond-async"],
            )  # fmt: skip
            return (self._cpu_s() - began) / len(told["ms"]) * 1e6

    async def _ask(self, **question: object) -> dict[str, Any]:
        asked = self._stack.client(**{"model": "deterministic", **question})
        told = await self._stack.children.answer("bench.load_client", asked)
        if set(told.get("statuses", {"202"})) != {"202"}:
            raise RuntimeError(f"{question['what']}: {told['statuses']}")
        return told

    def _cpu_s(self) -> float:
        total = 0.0
        for pid in self._stack.pids("edge", "worker"):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system + times.children_user + times.children_system
        return total
