"""Files that take all the time and memory they get: they hold up none that are quickly read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from consumers.documents.claims import SMALL_BYTES, Claim
from consumers.documents.parse.document import ParseFailed
from consumers.documents.passages import Reading
from schemas.events import DocumentFailed, DocumentIndexed, DocumentParsing
from schemas.ids import new_id
from tests.integration.documents.room import HashEmbedder, Room, read_lines


class Bombs:
    """Files named `bomb` pass the limits of a light place, and take for ever in another one until they may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.lit: list[bool] = []

    async def read(self, path: Path, claim: Claim) -> Reading:
        if claim.name != "bomb":
            return await read_lines(path, claim)
        self.lit.append(claim.is_light)
        if not claim.is_light:
            await self.may_end.wait()
        raise ParseFailed("timeout", "Reading the document takes too long; split it.")


async def test_small_bombs_hold_up_no_small_file_of_any_tenant(room: Room) -> None:
    bombs = Bombs()
    async with room.consuming(), room.learning(HashEmbedder(), read=bombs.read):
        bad = [await room.upload(b"bomb %d" % n, "bomb") for n in range(3)]
        own = await room.upload(b"a small file")
        room.tenant_id = new_id()
        others = [await room.upload(b"small %d" % n) for n in range(5)]
        for document_id in (own, *others):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        assert not any(room.heard.of(document_id, DocumentFailed) for document_id in bad)
        bombs.may_end.set()
        for document_id in bad:
            end = await room.heard.end(document_id)
            assert isinstance(end, DocumentFailed)
            assert end.error.code == "timeout"
            assert (await room.version(document_id))["barren_attempts"] == 1, "a light place is no fault of the file"
    assert bombs.lit.count(False) == 3
    assert bombs.lit.count(True) <= 2, "what is known to be heavy takes no light place again"


async def test_what_is_deleted_is_not_known_as_heavy_for_ever(room: Room) -> None:
    bombs = Bombs()
    async with room.consuming(), room.learning(HashEmbedder(), read=bombs.read) as jobs:
        bad = [await room.upload(b"bomb %d" % n, "bomb") for n in range(3)]
        async with asyncio.timeout(20):
            while len(waiting := sorted(jobs._heavy)) < 2:
                await asyncio.sleep(0.01)
        assert set(waiting) < set(bad)
        await room.delete(waiting[0])
        await jobs._settle_overdue()
        assert waiting[0] not in jobs._heavy
        assert waiting[1] in jobs._heavy
        bombs.may_end.set()
        await room.heard.end(waiting[1])


async def test_a_tenant_with_both_places_gives_one_up_to_another(room: Room) -> None:
    """Its files are not over any limit: they only take a while. Its own small files wait for them."""
    may_end = asyncio.Event()

    async def read(path: Path, claim: Claim) -> Reading:
        if claim.name == "slow":
            await may_end.wait()
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read):
        slow = [await room.upload(b"slow %d" % n, "slow") for n in range(2)]
        room.tenant_id = new_id()
        other = await room.upload(b"a small file")
        assert isinstance(await room.heard.end(other), DocumentIndexed)
        may_end.set()
        for document_id in slow:
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
            assert (await room.version(document_id))["attempt"] <= 2


async def test_large_files_of_one_tenant_take_turns_with_those_of_others(room: Room) -> None:
    """There is one place for them: when it is free, nobody has anything in work."""
    order: list[str] = []
    may_begin = asyncio.Event()

    async def read(path: Path, claim: Claim) -> Reading:
        order.append(claim.name)
        await may_begin.wait()
        path.write_bytes(b"a line")  # noqa: ASYNC240
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read):
        large = [b"%d" % n + bytes(SMALL_BYTES) for n in range(4)]
        first = [await room.upload(data, f"first {n}") for n, data in enumerate(large[:3])]
        room.tenant_id = new_id()
        other = await room.upload(large[3], "other")
        may_begin.set()
        for document_id in (*first, other):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert order == ["first 0", "other", "first 1", "first 2"]


async def test_a_place_is_free_again_though_its_lease_cannot_be_given_up(room: Room) -> None:
    """The document is deleted while it is read, and its row is locked for longer than a lease is renewed."""
    is_read = asyncio.Event()

    async def read(path: Path, claim: Claim) -> Reading:
        if claim.name == "slow":
            is_read.set()
            await asyncio.Event().wait()
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read, slots=1, lease_s=0.4) as jobs:
        slow = await room.upload(b"slow", "slow")
        await asyncio.wait_for(is_read.wait(), 10)
        async with room.database.transaction() as work:
            await work.execute("UPDATE document_versions SET status = 'deleted' WHERE document_id = $1", slow)
        async with room.database.transaction() as work:
            await work.execute("SELECT FROM document_versions WHERE document_id = $1 FOR UPDATE", slow)
            [held] = jobs._held.values()
            await asyncio.wait({held.task}, timeout=10)
            assert held.task.done()
        assert isinstance(await room.heard.end(await room.upload(b"another")), DocumentIndexed)


async def test_a_place_alone_is_never_light(room: Room) -> None:
    bombs = Bombs()
    bombs.may_end.set()
    async with room.consuming(), room.learning(HashEmbedder(), read=bombs.read, slots=1):
        assert isinstance(await room.heard.end(await room.upload(b"bomb", "bomb")), DocumentFailed)
    assert bombs.lit == [False]


async def test_pages_are_told_while_a_file_is_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.documents.job.TELL_S", 0.01)
    may_end = asyncio.Event()

    async def read(path: Path, claim: Claim) -> Reading:
        await may_end.wait()
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read) as jobs:
        document_id = await room.upload(b"a long book")
        [told] = await room.heard.until(lambda: room.heard.of(document_id, DocumentParsing))
        assert (told.n_parsed, told.n_pages, told.eta_s) == (0, 0, None)
        pages = {"now": (1200, 5000)}
        monkeypatch.setattr(jobs._job, "_pages_read", lambda _: pages["now"])
        await room.heard.more(document_id, DocumentParsing, 1)
        told = room.heard.of(document_id, DocumentParsing)[-1]
        assert (told.n_parsed, told.n_pages, told.eta_s > 0) == (1200, 5000, True)
        may_end.set()
        assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert len(room.heard.of(document_id, DocumentParsing)) == 2, "the same is not told again"
