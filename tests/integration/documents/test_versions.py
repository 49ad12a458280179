"""Versions: the old one answers until the new one is indexed, the switch is atomic, any may be restored."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumers.documents.superseded import remove_superseded
from retrieval.search import Searcher
from schemas.errors import Retry
from schemas.events import (
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    PassagesEmbedded,
)
from storage.ports import VectorHit
from storage.postgres.passages import PassageVisibility
from storage.vectors.lance import LanceVectorIndex, Leg
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room
from tests.integration.documents.test_deaths import worker
from tests.integration.documents.test_index import handle, index_commands
from tests.integration.documents.test_learning import purged
from tests.integration.documents.versions import (
    QUERY,
    active,
    indexed,
    lines,
    replace,
    restore,
    stopped,
    vectors_of,
    versions_found,
)


async def test_the_old_version_answers_until_the_new_one_is_indexed(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        embedder.stop_after = 1
        assert await replace(room, document_id, lines("second")) == 2
        await room.heard.until(lambda: len(room.heard.of(document_id, PassagesEmbedded)) > 4)
        await stopped(embedder)
        assert await versions_found(room) == {1: 35}
        assert await active(room, document_id) == 1
        embedder.gate.set()
        end = await indexed(room, document_id, 2)
        assert (end.is_active, end.n_passages) == (True, 35)
        assert await versions_found(room) == {2: 35}
    await remove_superseded(room.database, room.vectors)
    assert await vectors_of(room) == {"2": 35}


async def test_a_version_that_fails_leaves_the_old_one_and_says_why(room: Room) -> None:
    async with room.consuming(), room.learning(HashEmbedder()):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        await replace(room, document_id, b"")
        [failed] = await room.heard.until(lambda: room.heard.of(document_id, DocumentFailed))
        assert (failed.version, failed.error.code) == (2, "empty_document")
        assert await versions_found(room) == {1: 35}
        assert await active(room, document_id) == 1
        assert await replace(room, document_id, lines("third")) == 3
        await indexed(room, document_id, 3)
        assert await versions_found(room) == {3: 35}


async def test_what_was_asked_for_last_wins_whatever_is_indexed_last(room: Room) -> None:
    """Version 3 overtakes version 2, whose job is held up; version 1 is not indexed before either."""
    held, free = HashEmbedder(), HashEmbedder()
    held.stop_after = 1
    async with room.consuming():
        document_id = await room.upload(lines("first", 15))
        async with room.learning(free):
            await indexed(room, document_id, 1)
        async with room.learning(held, name="held", slots=1, lease_s=600):
            assert await replace(room, document_id, lines("second")) == 2
            await room.heard.until(lambda: [e for e in room.heard.of(document_id, PassagesEmbedded) if e.version == 2])
            async with room.learning(free, name="free"):
                assert await replace(room, document_id, lines("third")) == 3
                assert (await indexed(room, document_id, 3)).is_active
                assert await versions_found(room) == {3: 35}
                await stopped(held)
                held.gate.set()
                assert not (await indexed(room, document_id, 2)).is_active
        assert await active(room, document_id) == 3
        assert await versions_found(room) == {3: 35}
    await remove_superseded(room.database, room.vectors)
    assert await vectors_of(room) == {"3": 35}


async def test_of_versions_that_are_indexed_in_one_batch_the_last_one_wins(room: Room) -> None:
    async with room.consuming(with_index=False), room.learning(HashEmbedder()):
        document_id = await room.upload(lines("first", 5))
        for word in ("second", "third"):
            await replace(room, document_id, lines(word, 5))
        await room.heard.until(lambda: len(room.heard.of(document_id, PassagesEmbedded)) == 3)
    commands = await index_commands(room)
    assert await handle(room, [commands[2], commands[0], commands[1]]) == ["DocumentIndexed"] * 3
    assert await active(room, document_id) == 3
    assert await handle(room, commands) == [], "and nothing switches back"
    await remove_superseded(room.database, room.vectors)
    assert await vectors_of(room) == {"3": 5}


async def test_a_removal_that_was_cut_short_is_repeated(room: Room) -> None:
    class Dying(LanceVectorIndex):
        async def delete_batches(self, table: str, batch_ids: Sequence[str]) -> None:
            await super().delete_batches(table, batch_ids)
            raise Retry("the process died after it")

    async with room.consuming(), room.learning(HashEmbedder()) as jobs:
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        for loop in jobs._loops:
            if loop.get_name() == "documents purge":
                loop.cancel()  # what it does is done here
        await replace(room, document_id, lines("second"))
        await indexed(room, document_id, 2)
    dying = Dying(str(room.folder / "vectors"))
    assert await remove_superseded(room.database, dying) == 0
    await dying.close()
    assert await remove_superseded(room.database, room.vectors) == 1
    assert await remove_superseded(room.database, room.vectors) == 0
    assert await vectors_of(room) == {"2": 35}


async def test_a_worker_killed_while_it_learns_a_version_changes_nothing_but_time(room: Room) -> None:
    async with room.consuming(), asking(room) as answers:
        async with room.learning(HashEmbedder()):
            document_id = await room.upload(lines("first", 95))
            await indexed(room, document_id, 1)
        assert await replace(room, document_id, lines("second", 95)) == 2
        async with worker(room, "victim") as process:
            await room.heard.more(document_id, PassagesEmbedded, 2)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert await versions_found(room) == {1: 95}
        async with worker(room, "last"):
            assert (await indexed(room, document_id, 2)).is_active
        await until_seen(answers, {2: 95})
    first = answers.index({1: 95})
    assert changes(answers[first:]) == [{1: 95}, {2: 95}], "all old or all new, never both, never none, one switch"
    assert len(room.heard.of(document_id, DocumentIndexed)) == 2


@asynccontextmanager
async def asking(room: Room) -> AsyncIterator[list[dict[int, int]]]:
    """Asks without end; what each answer showed."""
    answers: list[dict[int, int]] = []

    async def ask() -> None:
        while True:
            answers.append(await versions_found(room))

    task = asyncio.create_task(ask())
    try:
        yield answers
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def changes(answers: list[dict[int, int]]) -> list[dict[int, int]]:
    """The answers without those that are as the one before."""
    return [found for found, before in zip(answers, [None, *answers], strict=False) if found != before]


async def until_seen(answers: list[dict[int, int]], wanted: dict[int, int]) -> None:
    async with asyncio.timeout(20):
        while wanted not in answers[-1:]:
            await asyncio.sleep(0.005)


async def test_whoever_searches_while_versions_switch_sees_one_of_them_whole(room: Room) -> None:
    async with room.consuming(), room.learning(HashEmbedder()):
        document_id = await room.upload(lines("1"))
        await indexed(room, document_id, 1)
        async with asking(room) as first, asking(room) as second, asking(room) as third:
            for number in range(2, 5):
                await replace(room, document_id, lines(str(number)))
                await indexed(room, document_id, number)
                for answers in (first, second, third):
                    await until_seen(answers, {number: 35})
            await restore(room, document_id, 2)
            for answers in (first, second, third):
                await until_seen(answers, {2: 35})
    for answers in (first, second, third):
        assert changes(answers) == [{n: 35} for n in (1, 2, 3, 4, 2)], "never both, never none, each whole"


class Slow(LanceVectorIndex):
    """An index whose answers are under way for as long as a test wants."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def search(self, *args: Any, **asked: Any) -> dict[Leg, list[VectorHit]]:
        hits = await super().search(*args, **asked)
        self.asked.set()
        await self.gate.wait()
        return hits


async def test_a_search_that_began_before_a_switch_and_ends_after_it_is_not_empty(room: Room) -> None:
    """Its candidates know the old version only, whose vectors are gone meanwhile; PostgreSQL shows the new one only."""
    slow = Slow(str(room.folder / "vectors"))
    searching = Searcher(slow, HashEmbedder(), PassageVisibility(room.database))
    async with room.consuming(), room.learning(HashEmbedder()):
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        search = asyncio.create_task(searching.find(room.tenant_id, QUERY, limit=5, mode="text"))
        await slow.asked.wait()
        await replace(room, document_id, lines("second"))
        await indexed(room, document_id, 2)
        await remove_superseded(room.database, room.vectors)
        slow.gate.set()
        assert [item.passage.version for item in (await search).items] == [2] * 5
    await slow.close()


async def test_a_deleted_document_leaves_nothing_of_any_version(room: Room) -> None:
    embedder = HashEmbedder()
    async with room.consuming(), room.learning(embedder):
        kept = await room.upload(b"another document")
        document_id = await room.upload(lines("first"))
        await indexed(room, document_id, 1)
        for number in (2, 3):
            await replace(room, document_id, lines(str(number)))
            await indexed(room, document_id, number)
        embedder.gate.clear()
        await restore(room, document_id, 1)
        await replace(room, document_id, lines("in work"))
        assert isinstance(await room.delete(document_id), DocumentDeleted)
        embedder.gate.set()
        await purged(room, document_id)
        other = await room.upload(b"both slots are free again")
        for one in (kept, other):
            assert isinstance(await room.heard.end(one), DocumentIndexed)
        assert await room.keys(document_id) == []
        sizes = await room.vectors.batch_sizes(table_name(room.tenant_id, "hash-16"))
        assert {batch_id.split(".")[0] for batch_id in sizes} == {str(kept), str(other)}
        for relation in ("passages", "document_batches"):
            left = await room.row(f"SELECT count(*) AS n FROM {relation} WHERE document_id = $1", document_id)
            assert left["n"] == 0
        rows = await room.row(
            "SELECT array_agg(DISTINCT status) AS statuses, count(*) AS n FROM document_versions"
            " WHERE document_id = $1",
            document_id,
        )
        assert (rows["statuses"], rows["n"]) == (["deleted"], 4)
        again = await room.upload(lines("first"))
        assert isinstance(await room.heard.end(again), DocumentIndexed), "its bytes are free again"
