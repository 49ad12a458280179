"""Requests that make no sense where they are sent: each has one answer, and changes nothing (docs/bad-input.md)."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx
import pytest

from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_documents import upload
from tests.integration.edge.test_messages import end_in_postgres, new_session, post
from tests.integration.edge.test_streams import all_of, asked
from tests.integration.edge.world import Person, RunningEdge, person, shown, tell_key

pytestmark = pytest.mark.usefixtures("consumers")


def told(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    body = answer.json()
    return answer.status_code, body.get("code"), body.get("field")


NEVER_GIVEN = [
    "garbage",
    "-1.0.1",
    "000000.0000000002.9",
    "000000.0000000001.0",
    "٠٠٠٠٠٠.٠٠٠٠٠٠٠٠٠١.١",
    "0" * 5_000,
    "000000.0000000011.1",
    "000000.9999999999.1",
    "000007.0000000001.1",
    "999999.0000000000.0",
]


async def test_a_last_event_id_that_the_stream_has_not_given(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        writer = await asked(client, producer, somebody)
        await writer.open()
        await writer.write("ten chars.")
        for is_over in (False, True):
            if is_over:
                await writer.finish()
                assert shown(await all_of(client, writer.id)) == "ten chars."
            for last_id in NEVER_GIVEN:
                headers = {b"last-event-id": last_id.encode()}
                refused = await client.get(f"/api/v1/completions/{writer.id}/stream", headers=headers)
                assert told(refused) == (400, "invalid_last_event_id", "Last-Event-ID"), (last_id, is_over)


async def test_a_last_event_id_of_another_completion(
    edge: RunningEdge, somebody: Person, producer: LogProducer
) -> None:
    """An id is a place: one that this stream has is its own, whoever gave it; one beyond is refused."""
    async with edge.client(somebody) as client:
        short, long = [await asked(client, producer, somebody) for _ in range(2)]
        for writer, text in ((short, "ten chars."), (long, "ten chars. And ten more.")):
            await writer.open()
            await writer.write("ten")
            await writer.write(text[3:])
            await writer.finish()
        first, last = [event.id for event in await all_of(client, long.id) if event.name == "delta"]
        rest = [event.data["text"] for event in await all_of(client, short.id, first) if event.name == "delta"]
        assert rest == [" chars."]
        refused = await client.get(f"/api/v1/completions/{short.id}/stream", headers={"last-event-id": str(last)})
        assert told(refused) == (400, "invalid_last_event_id", "Last-Event-ID")


async def _cursors(edge: RunningEdge, who: Person) -> dict[str, str]:
    """A cursor of each of somebody's lists."""
    async with edge.client(who) as client:
        sessions = [await new_session(client) for _ in range(2)]
        for session_id in sessions:
            await post(client, session_id, "q")
        for content in (b"one", b"two"):
            await upload(client, content)
        urls = ["/api/v1/sessions", "/api/v1/documents", *(f"/api/v1/sessions/{id_}/messages" for id_ in sessions)]
        pages = {url: (await client.get(url, params={"limit": "1"})).json() for url in urls}
        return {url: str(page["next_cursor"]) for url, page in pages.items()}


async def test_a_cursor_of_another_list(edge: RunningEdge, somebody: Person, producer: LogProducer) -> None:
    stranger = person()
    await tell_key(producer, stranger)
    mine, theirs = [await _cursors(edge, who) for who in (somebody, stranger)]
    async with edge.client(somebody) as client:
        for url, own in mine.items():
            assert (await client.get(url, params={"cursor": own})).status_code == 200
            for foreign in {*mine.values(), *theirs.values()} - {own}:
                answer = await client.get(url, params={"cursor": foreign})
                assert told(answer) == (400, "invalid_cursor", "cursor"), url


async def test_cancel_of_what_has_ended_says_how(edge: RunningEdge, somebody: Person, database: Database) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        for status in ("complete", "failed", "cancelled"):
            id_ = (await post(client, session_id, "q")).json()["completion"]["id"]
            await end_in_postgres(database, id_, status, "as it was")
            for _ in range(2):
                answer = await client.post(f"/api/v1/completions/{id_}/cancel")
                assert (answer.status_code, answer.json()) == (200, {"id": id_, "status": status})
            read = (await client.get(f"/api/v1/completions/{id_}")).json()
            assert (read["status"], read["content"]) == (status, "as it was")


async def test_resume_of_what_is_complete_or_not_there(edge: RunningEdge, somebody: Person, database: Database) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        url = f"/api/v1/sessions/{session_id}/resume"
        assert told(await client.post(url)) == (409, "nothing_to_resume", None)
        id_ = (await post(client, session_id, "q")).json()["completion"]["id"]
        await end_in_postgres(database, id_, "complete", "whole")
        assert told(await client.post(url)) == (409, "already_complete", None)
        read = (await client.get(f"/api/v1/completions/{id_}")).json()
        assert (read["status"], read["content"]) == ("complete", "whole")


async def test_resumes_at_once_make_one_completion_and_all_are_told_it(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        id_ = (await post(client, session_id, "q")).json()["completion"]["id"]
        await end_in_postgres(database, id_, "failed", "half")
        url = f"/api/v1/sessions/{session_id}/resume"
        answers = await asyncio.gather(*(client.post(url) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["completion"]["id"] for answer in answers} - {id_}) == 1
    async with database.transaction() as work:
        assert await work.fetchval("SELECT count(*) FROM completions WHERE session_id = $1", UUID(session_id)) == 2


async def test_an_edit_of_what_is_not_ones_own_question(
    edge: RunningEdge, somebody: Person, strangers: tuple[Person, ...], database: Database
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        posted = (await post(client, session_id, "q")).json()
        question, answer = (
            f"/api/v1/messages/{id_}" for id_ in (posted["message"]["id"], posted["completion"]["message_id"])
        )
        await end_in_postgres(database, posted["completion"]["id"], "complete", "a")
        better = {"content": "better"}
        assert told(await client.patch(answer, json=better)) == (422, "wrong_sender", "message_id")
        assert told(await client.post(f"{question}/regenerate")) == (422, "wrong_sender", "message_id")
        for other in strangers:
            async with edge.client(other) as elsewhere:
                for refused in (
                    await elsewhere.patch(question, json=better),
                    await elsewhere.patch(answer, json=better),
                ):
                    assert refused.status_code == 404
        items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
        assert [item["content"] for item in items] == ["q", "a"]
