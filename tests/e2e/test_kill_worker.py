"""kill -9 of the worker in the middle of an answer: the same stream goes on, no character lost or repeated."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
import pytest

from ragline.client.sse import SseDecoder, SseEvent
from tests.provider_server.process import provider_process
from tests.stack import DevStack, running

pytestmark = pytest.mark.timeout(240)

TEXT = " ".join(f"{word}{number}" for number in range(30) for word in ("größer", "추적", "😀👩‍👩‍👧", "[1]", "ﬁn"))
TOKENS_PER_S = 25.0
TERMINAL = {"completed", "failed", "cancelled"}


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    """A slow model on an OpenAI-compatible server in a process of its own."""
    with provider_process(text=TEXT, tokens_per_s=TOKENS_PER_S) as url:
        yield url


@pytest.fixture(scope="module")
def stack(provider_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    models = [
        {"name": "goes-on", "model": "openai/test", "api_base": provider_url, "api_key": "x", "prefill": True},
        {"name": "begins-anew", "model": "openai/test", "api_base": provider_url, "api_key": "x", "prefill": False},
    ]
    with running(tmp_path_factory.mktemp("kill_worker"), env={"RAGLINE_MODELS": json.dumps(models)}) as started:
        yield started


@dataclass
class Read:
    """One SSE connection, read to its end and checked as it comes."""

    text: str = ""
    resets: int = 0
    ids: list[str] = field(default_factory=list)
    terminals: list[SseEvent] = field(default_factory=list)
    attempts: set[int] = field(default_factory=set)

    def take(self, event: SseEvent) -> None:
        if event.event in {"delta", "reset"} | TERMINAL:
            assert not self.ids or event.id > self.ids[-1], "ids increase"
            assert not self.terminals, "nothing comes after the end"
            self.ids.append(event.id)
        if event.event == "delta":
            data = json.loads(event.data)
            assert (data["start"], data["end"]) == (len(self.text), len(self.text) + len(data["text"]))
            self.text += data["text"]
            self.attempts.add(data["attempt"])
        elif event.event == "reset":
            self.text, self.resets = "", self.resets + 1
        elif event.event in TERMINAL:
            self.terminals.append(event)


async def _events(url: str, headers: dict[str, str]) -> AsyncIterator[SseEvent]:
    decoder = SseDecoder()
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200
        async for piece in response.content.iter_any():
            for event in decoder.feed(piece):
                yield event


async def _read(stack: DevStack, path: str, *, then: Callable[[], None], after_characters: int) -> Read:
    """Reads one connection; `then` runs once in its middle."""
    read, happened = Read(), None
    async for event in _events(stack.base_url + path, stack.headers):
        read.take(event)
        if happened is None and len(read.text) >= after_characters:
            happened = asyncio.create_task(asyncio.to_thread(then))
    assert happened is not None
    await happened
    return read


def _post(stack: DevStack, model: str) -> dict[str, Any]:
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=30.0) as client:
        session = client.post("/api/v1/sessions", json={}).json()
        posted = client.post(
            f"/api/v1/sessions/{session['id']}/messages", json={"content": "Tell me of it.", "model": model}
        )
        assert posted.status_code == 202, posted.text
        body: dict[str, Any] = posted.json()
        return body


def _check_stored(stack: DevStack, posted: dict[str, Any]) -> None:
    path = f"/api/v1/sessions/{posted['message']['session_id']}/messages"
    messages = httpx.get(stack.base_url + path, headers=stack.headers, timeout=10.0).json()["items"]
    assert [(m["sender"], m["status"]) for m in messages] == [("user", "complete"), ("ai", "complete")]
    assert messages[1]["content"] == TEXT


@pytest.mark.parametrize(("model", "n_resets"), [("goes-on", 0), ("begins-anew", 1)])
async def test_the_stream_goes_on(stack: DevStack, model: str, n_resets: int) -> None:
    posted = await asyncio.to_thread(_post, stack, model)
    read = await _read(
        stack, posted["completion"]["stream_url"], then=lambda: stack.kill("worker"), after_characters=len(TEXT) // 3
    )
    assert read.text == TEXT
    assert read.resets == n_resets
    assert [event.event for event in read.terminals] == ["completed"]
    assert len(read.attempts) == 2
    await asyncio.to_thread(_check_stored, stack, posted)


async def test_a_worker_that_dies_twice_and_a_reader_who_comes_late(stack: DevStack) -> None:
    posted = await asyncio.to_thread(_post, stack, "goes-on")
    url = posted["completion"]["stream_url"]

    def kill_twice() -> None:
        stack.kill("worker")
        stack.kill("worker")

    read = await _read(stack, url, then=kill_twice, after_characters=len(TEXT) // 4)
    assert (read.text, read.resets, len(read.terminals)) == (TEXT, 0, 1)
    late = Read()
    async for event in _events(stack.base_url + url, stack.headers):
        late.take(event)
    assert (late.text, len(late.terminals)) == (TEXT, 1)
    assert late.terminals[0].id == read.terminals[0].id


def test_ask_follows_a_killed_worker(stack: DevStack) -> None:
    asked = subprocess.Popen(
        [sys.executable, "-m", "ragline.cli.main", "ask", "--json", "--model", "goes-on", "Tell me of it."],
        cwd=stack.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    with asked:
        pid = stack.pid("worker")
        _until_something_is_written(stack)
        stack.kill("worker")
        assert stack.pid("worker") != pid
        output, _ = asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert json.loads(output)["answer"] == TEXT


def _until_something_is_written(stack: DevStack) -> None:
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=30.0) as client:
        while True:
            sessions = client.get("/api/v1/sessions?limit=1").json()["items"]
            messages = client.get(f"/api/v1/sessions/{sessions[0]['id']}/messages").json()["items"]
            if messages and messages[-1]["sender"] == "ai" and messages[-1]["status"] == "in_progress":
                return
