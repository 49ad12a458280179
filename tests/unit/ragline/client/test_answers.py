"""An answer is read whole, each character once, over cuts, restarts and edges."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from ragline.client.answers import Answer, Restarted, Said, ask, numbers_of
from ragline.client.connection import Connection
from ragline.client.errors import CutError, RefusedError, UnreachableError
from ragline.client.target import Target
from schemas.http import CompletionView
from tests.unit.ragline.client.scripted_edge import (
    COMPLETION,
    DOCUMENT,
    OTHER_DOCUMENT,
    SESSION,
    ScriptedEdge,
    completion,
    delta,
    problem,
    serving,
    terminal,
)

PATH = f"/api/v1/completions/{COMPLETION}"
STREAM = f"GET {completion()['stream_url']}"
STARTED = b"event: started\ndata: {}\n\n"
KEY = "a" * 64


async def _ask(*urls: str, patience_s: float = 5.0) -> list[Said | Restarted | Answer]:
    async with Connection(Target(urls, KEY), patience_s=patience_s) as connection:
        return [part async for part in ask(connection, "why?")]


def _text(parts: Sequence[object]) -> str:
    said: list[str] = []
    for part in parts:
        if isinstance(part, Restarted):
            said.clear()
        elif isinstance(part, Said):
            said.append(part.text)
    return "".join(said)


async def test_an_answer_with_its_citations() -> None:
    cited = [
        {"document_id": id_, "version": 1, "page": 3, "start": 0, "end": 5, "quote": "hello"}
        for id_ in (DOCUMENT, DOCUMENT, OTHER_DOCUMENT)
    ]
    usage = {"input_tokens": 1, "output_tokens": 2}
    edge = ScriptedEdge([STARTED + delta(0, "grö") + b": hb\n" + delta(3, "ßer") + terminal()])
    edge.answers[f"GET /api/v1/completions/{COMPLETION}"] = [(200, completion(citations=cited, usage=usage))]
    async with serving(edge):
        parts = await _ask(edge.url)
    answer = parts[-1]
    assert isinstance(answer, Answer)
    assert _text(parts) == answer.text == "größer"
    assert answer.session_id == UUID(SESSION)
    assert [q.document for q in answer.citations] == ["paper.pdf", "paper.pdf", OTHER_DOCUMENT]
    assert answer.usage is not None
    assert edge.sent(STREAM, "Authorization") == [f"Bearer {KEY}"]
    names = [what for what, _ in edge.requests]
    assert names.count(f"GET /api/v1/documents/{DOCUMENT}") == 1


async def test_goes_on_on_another_edge_from_where_it_was() -> None:
    first = ScriptedEdge([STARTED + delta(0, "gr") + delta(2, "ö")[:20]])
    second = ScriptedEdge([STARTED + delta(2, "öß"), 503, STARTED + delta(3, "ßer") + terminal()])
    first.streams += [STARTED + b'event: error\ndata: {"code":"x"}\n\n', STARTED]
    async with serving(first), serving(second):
        parts = await _ask(first.url, second.url)
    assert _text(parts) == "größer"
    assert [part for part in parts if isinstance(part, Said)] == [Said("gr"), Said("öß"), Said("er")]
    assert second.sent(STREAM, "Last-Event-ID") == ["000000.0000000002.1"] + 2 * ["000000.0000000004.1"]


async def test_a_restart_begins_anew() -> None:
    reset = b'id: 000001.0000000000.0\nevent: reset\ndata: {"at":0}\n\n'
    edge = ScriptedEdge([delta(0, "wrong") + reset + delta(0, "gröss", 1), reset + delta(0, "größer", 2) + terminal()])
    async with serving(edge):
        parts = await _ask(edge.url)
    assert _text(parts) == "größer"
    assert sum(isinstance(part, Restarted) for part in parts) == 2


async def test_posts_are_repeated_under_one_key() -> None:
    edge = ScriptedEdge([delta(0, "größer") + terminal()])
    for what in ("POST /api/v1/sessions", f"POST /api/v1/sessions/{SESSION}/messages"):
        edge.answers[what].insert(0, (503, problem("log_unavailable", "Kafka is away")))
    async with serving(edge):
        assert _text(await _ask(edge.url)) == "größer"
    for what in ("POST /api/v1/sessions", f"POST /api/v1/sessions/{SESSION}/messages"):
        first, second = edge.sent(what, "Idempotency-Key")
        assert first == second is not None


async def test_what_was_only_just_accepted_is_asked_for_again() -> None:
    async with serving(ScriptedEdge([404, delta(0, "größer") + terminal()])) as edge:
        assert _text(await _ask(edge.url)) == "größer"


async def test_what_is_gone_in_the_middle_is_told_at_once() -> None:
    async with serving(ScriptedEdge([delta(0, "grö"), 404])) as edge:
        with pytest.raises(RefusedError, match="away"):
            await _ask(edge.url)


async def test_what_is_refused_is_told_at_once() -> None:
    edge = ScriptedEdge()
    refusal = problem("unknown_model", 'model "fats" is not configured; known: fast', field="model")
    edge.answers[f"POST /api/v1/sessions/{SESSION}/messages"] = [(422, refusal)]
    async with serving(edge):
        with pytest.raises(RefusedError, match=r'^model "fats" is not configured; known: fast \(unknown_model\)'):
            await _ask(edge.url)


async def test_a_wrong_key() -> None:
    edge = ScriptedEdge(answers={"POST /api/v1/sessions": [(401, problem("unauthorized", "no"))]})
    async with serving(edge):
        with pytest.raises(UnreachableError, match="does not know this API key"):
            await _ask(edge.url)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=f"^no Ragline answers at {url}; start it with `make dev`"):
        await _ask(url)


async def test_one_dead_edge_of_two_is_passed_by() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    edge = ScriptedEdge([delta(0, "größer") + terminal()])
    async with serving(edge):
        assert _text(await _ask(dead, edge.url)) == "größer"


async def test_edges_that_restart_one_after_the_other_are_waited_for() -> None:
    """The second request begins at an edge that has gone since; then both have, for a moment."""
    first, second = ScriptedEdge(), ScriptedEdge()
    async with AsyncExitStack() as running:
        async with serving(first), serving(second):
            connection = await running.enter_async_context(Connection(Target((first.url, second.url), KEY)))
            assert (await connection.get(PATH, CompletionView)).content == "größer"
        back = asyncio.create_task(connection.get(PATH, CompletionView))
        while connection._turn < 3:
            await asyncio.sleep(0.01)
        await running.enter_async_context(serving(second, port=int(second.url.rpartition(":")[2])))
        assert (await back).content == "größer"


@pytest.mark.parametrize("body", [{}, [], {"items": []}])
async def test_another_server_is_seen_as_such(body: object) -> None:
    async with serving(ScriptedEdge(answers={"POST /api/v1/sessions": [(200, body)]})) as edge:
        with pytest.raises(UnreachableError, match="something that is not Ragline's"):
            await _ask(edge.url)


async def test_patience_ends() -> None:
    edge = ScriptedEdge([delta(0, "gr") for _ in range(50)])
    async with serving(edge):
        with pytest.raises(UnreachableError, match="went away"):
            await _ask(edge.url, patience_s=0.5)


async def test_a_gap_is_no_text() -> None:
    async with serving(ScriptedEdge([delta(0, "gr") + delta(3, "ßer") + terminal()])) as edge:
        with pytest.raises(CutError, match="lost characters 2 to 3"):
            await _ask(edge.url)


async def test_a_failed_answer_says_why() -> None:
    edge = ScriptedEdge([delta(0, "gr") + terminal("failed")])
    failed = completion(status="failed", content="gr", error={"code": "x", "message": "the model is away"})
    edge.answers[f"GET /api/v1/completions/{COMPLETION}"] = [(200, failed)]
    async with serving(edge):
        answer = (await _ask(edge.url))[-1]
    assert isinstance(answer, Answer)
    assert (answer.status, answer.text, answer.error) == ("failed", "gr", "the model is away")


@pytest.mark.parametrize(
    ("text", "n_citations", "numbers"),
    [
        ("b [2], a [1] and again b [2]", 2, [2, 1]),
        ("no marker", 2, [1, 2]),
        ("[7] names none, [2] does", 1, [1]),
        ("", 0, []),
    ],
)
def test_citations_are_called_as_the_text_calls_them(text: str, n_citations: int, numbers: list[int]) -> None:
    assert numbers_of(text, n_citations) == numbers
