"""Whatever dies or is away: only what is missing is done, and every document ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from consumers.documents.claims import Claim
from consumers.documents.overdue import settle_overdue
from consumers.documents.passages import Reading
from providers.ports import ProviderError
from schemas.errors import Retry
from schemas.events import DocumentFailed, DocumentIndexed, DocumentParsed, PassagesEmbedded
from schemas.topics import KNOWLEDGE_INDEX
from storage.postgres import outbox
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room, read_lines

LINES = [f"line {n} of the document" for n in range(95)]
DATA = "\n".join(LINES).encode()


@asynccontextmanager
async def worker(room: Room, name: str, *api_base: str) -> AsyncIterator[Process]:
    arguments = (room.dsn, room.bootstrap, str(room.folder), name, *api_base)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.documents.worker", *arguments), stdout=PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _claimed(room: Room, document_id: UUID, *, attempt: int) -> None:
    async with asyncio.timeout(30):
        while (await room.version(document_id))["attempt"] < attempt:
            await asyncio.sleep(0.02)


async def test_a_killed_workers_document_is_continued_from_the_first_missing_batch(room: Room) -> None:
    async with room.consuming(), room.relaying():
        document_id = await room.upload(DATA)
        for number in range(3):
            async with worker(room, f"victim-{number}") as process:
                await _claimed(room, document_id, attempt=number + 1)  # what is heard may be the last victim's
                await room.heard.more(document_id, PassagesEmbedded, 2)
                process.kill()
        async with worker(room, "last"):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    row = await room.version(document_id)
    assert (row["n_embedded"], row["status"]) == (95, "indexed")
    assert row["attempt"] == 4
    told = [event.n_embedded for event in room.heard.of(document_id, PassagesEmbedded)]
    assert sorted(set(told)) == [*range(10, 95, 10), 95]
    assert len(room.heard.of(document_id, DocumentParsed)) == 1
    embedded = Counter((room.folder / "embedded").read_text().splitlines())
    assert set(embedded) == set(LINES)
    # A killed attempt can lose the batch it was storing and the one it embedded ahead, never more.
    assert sum(embedded.values()) <= 95 + 3 * 20
    assert await room.vectors.count(table_name(room.tenant_id, "hash-16")) == 95


async def test_a_worker_told_to_end_hands_over_at_once(room: Room) -> None:
    async with room.consuming():
        document_id = await room.upload(DATA)
        async with worker(room, "first") as process:
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        row = await room.version(document_id)
        assert (row["status"], row["lease_until"], row["barren_attempts"]) == ("embedding", None, 0)
        async with worker(room, "second"):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)


async def test_a_file_that_kills_the_worker_ends_after_five_attempts(room: Room) -> None:
    async with room.consuming(), room.relaying():
        document_id = await room.upload(b"poison", "poison")
        for number in range(5):
            async with worker(room, f"victim-{number}") as process:
                assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
        async with worker(room, "survivor"):
            end = await room.heard.end(document_id)
            assert isinstance(end, DocumentFailed)
            assert end.error.code == "attempts_exhausted"
            assert isinstance(await room.heard.end(await room.upload(b"a good file")), DocumentIndexed)
    assert len(room.heard.of(document_id, DocumentFailed)) == 1


async def test_a_bug_on_one_file_costs_that_file_only(room: Room) -> None:
    n_calls = 0

    async def read(path: Path, claim: Claim) -> Reading:
        nonlocal n_calls
        if claim.name == "bug":
            n_calls += 1
            raise ZeroDivisionError
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read, max_attempts=2):
        bad, good = await room.upload(b"bad", "bug"), await room.upload(b"good")
        assert isinstance(await room.heard.end(good), DocumentIndexed)
        end = await room.heard.end(bad)
    assert isinstance(end, DocumentFailed)
    assert end.error.code == "attempts_exhausted"
    assert n_calls == 2


class Refusing(HashEmbedder):
    """Fails a few times, then embeds."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def embed(self, texts: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return await super().embed(texts)


async def test_an_embedder_that_is_away_is_waited_for_and_one_that_refuses_ends_the_document(room: Room) -> None:
    busy = ProviderError("rate_limited", "too many", retryable=True, retry_after_s=0.1)
    async with room.consuming():
        async with room.learning(Refusing(*[busy] * 8)):
            document_id = await room.upload(b"one")
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        async with room.learning(Refusing(ProviderError("auth", "the key is wrong", retryable=False))):
            document_id = await room.upload(b"two")
            end = await room.heard.end(document_id)
    assert isinstance(end, DocumentFailed)
    assert (end.error.code, "the key is wrong" in end.error.message) == ("embedding_failed", True)


async def test_a_stale_holder_stores_nothing(room: Room) -> None:
    """A holder that slept through its lease: the taker's work stands, the sleeper stops without a word."""
    sleeper, taker = HashEmbedder(), HashEmbedder()
    sleeper.stop_after = 1
    async with room.consuming():
        async with room.learning(sleeper, name="sleeper", lease_s=600) as asleep:
            document_id = await room.upload(DATA)
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
            await room.row(
                "UPDATE document_versions SET lease_until = now() WHERE document_id = $1 RETURNING 1", document_id
            )
            for loop in asleep._loops:  # it sleeps: neither renews nor claims
                loop.cancel()
            async with room.learning(taker, name="taker"):
                assert isinstance(await room.heard.end(document_id), DocumentIndexed)
            sleeper.gate.set()
            await asyncio.gather(*(held.task for held in list(asleep._held.values())))
        row = await room.version(document_id)
    assert (row["status"], row["n_embedded"], row["attempt"]) == ("indexed", 95, 2)
    told = [event.n_embedded for event in room.heard.of(document_id, PassagesEmbedded)]
    assert told == [*range(10, 95, 10), 95]


async def test_a_process_may_take_over_from_itself(room: Room) -> None:
    """PostgreSQL was away for longer than the lease: the old attempt and the new one are both of this process."""
    embedder = HashEmbedder()
    embedder.stop_after = 1
    async with room.consuming(), room.learning(embedder, lease_s=600):
        document_id = await room.upload(DATA)
        await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
        expire = "UPDATE document_versions SET lease_until = now() WHERE document_id = $1 RETURNING attempt"
        async with asyncio.timeout(10):
            while (await room.row(expire, document_id))["attempt"] == 1:
                await asyncio.sleep(0.1)
        embedder.gate.set()
        assert isinstance(await room.heard.end(document_id), DocumentIndexed)
        assert isinstance(await room.heard.end(await room.upload(b"both slots are free")), DocumentIndexed)
    told = [event.n_embedded for event in room.heard.of(document_id, PassagesEmbedded)]
    assert told == [*range(10, 95, 10), 95]


async def test_what_is_away_for_a_day_ends_the_document_with_a_reason(room: Room) -> None:
    async def read(_: Path, __: Claim) -> Reading:
        raise Retry("the blob store is away", after_s=0.05)

    async with room.consuming(), room.learning(HashEmbedder(), read=read):
        document_id = await room.upload(b"patience")
        await room.row(
            "UPDATE document_versions SET started_at = now() - interval '25 h' WHERE document_id = $1 RETURNING 1",
            document_id,
        )
        end = await room.heard.end(document_id)
    assert isinstance(end, DocumentFailed)
    assert (end.error.code, "the blob store is away" in end.error.message) == ("unavailable", True)


async def test_another_embedding_model_starts_the_vectors_anew(room: Room) -> None:
    class Other(HashEmbedder):
        @property
        def model(self) -> str:
            return "other-16"

    first, second = HashEmbedder(), Other()
    first.stop_after = 2
    async with room.consuming():
        async with room.learning(first):
            document_id = await room.upload(DATA)
            await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
        async with room.learning(second):
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert sum(second.counts.values()) == 95
    assert await room.vectors.count(table_name(room.tenant_id, "other-16")) == 95


async def test_vectors_that_vanished_end_the_document_with_a_reason(room: Room) -> None:
    async with room.learning(HashEmbedder()):
        async with room.consuming(with_index=False):
            document_id = await room.upload(b"one\ntwo")
        await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
    [key] = [key for key in await room.keys(document_id) if key.endswith(".npy")]
    await room.blobs.delete(f"tenants/{room.tenant_id}/documents/{document_id}/{key}")
    async with room.consuming():
        end = await room.heard.end(document_id)
    assert isinstance(end, DocumentFailed)
    assert end.error.code == "index_failed"
    assert (await room.version(document_id))["status"] == "failed"


async def test_a_dead_lettered_batch_fails_its_document_and_a_redrive_revives_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = room.vectors.replace_batches

    async def broken(*_: object, **__: object) -> None:
        raise ArithmeticError("a bug in the index")

    monkeypatch.setattr(room.vectors, "replace_batches", broken)
    async with room.learning(HashEmbedder()), room.consuming():
        document_id = await room.upload(b"one\ntwo")
        end = await room.heard.end(document_id)
        assert isinstance(end, DocumentFailed)
        assert end.error.code == "index_failed"
        assert "dead letter" in end.error.message
        monkeypatch.setattr(room.vectors, "replace_batches", replace)
        await redrive(room, document_id)
        await room.heard.until(lambda: room.heard.of(document_id, DocumentIndexed))
    assert (await room.version(document_id))["status"] == "indexed"


async def redrive(room: Room, document_id: UUID) -> None:
    """Publishes the document's index commands again, as they were."""
    async with room.database.transaction() as work:
        rows = await work.fetch("SELECT * FROM outbox WHERE topic = $1", KNOWLEDGE_INDEX.name)
    records = [outbox._record(row) for row in rows if str(document_id).encode() in row["value"]]
    assert records
    await room.producer.publish_records(records)


async def test_a_batch_whose_command_was_lost_is_issued_again_and_at_last_given_up(room: Room) -> None:
    async with room.learning(HashEmbedder()):
        async with room.consuming(with_index=False):
            document_id = await room.upload(b"one\ntwo")
        await room.heard.until(lambda: room.heard.of(document_id, PassagesEmbedded))
    async with room.database.transaction() as work:
        await work.execute("DELETE FROM outbox_unpublished")
        await work.execute("UPDATE outbox SET created_at = now() - interval '1 hour'")
        await work.execute("UPDATE document_versions SET updated_at = now() - interval '6 minutes'")
    assert await settle_overdue(room.database, room.publisher) == 0
    async with room.database.transaction() as work:
        [again] = await outbox.unpublished(work, older_than_s=0, limit=10)
        assert again.topic == KNOWLEDGE_INDEX.name
        await work.execute("UPDATE document_versions SET updated_at = now() - interval '2 days'")
    assert await settle_overdue(room.database, room.publisher) == 1
    end = await room.heard.end(document_id)
    assert isinstance(end, DocumentFailed)
    assert "24 h" in end.error.message


class SlowOnLongTexts(HashEmbedder):
    """Long texts wait until they may; short ones pass."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def embed(self, texts: Any) -> Any:
        if any(len(text) > 1000 for text in texts):
            await self.may.wait()
        return await super().embed(texts)


async def test_small_documents_overtake_large_ones_that_take_for_ever(room: Room) -> None:
    large = "\n".join(f"line {n} {'x' * 12_000}" for n in range(120)).encode()
    embedder = SlowOnLongTexts()
    order: list[str] = []

    async def read(path: Path, claim: Claim) -> Reading:
        order.append(claim.name)
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(embedder, slots=2, read=read):
        big = [await room.upload(large + b"%d" % n, f"big-{n}") for n in range(3)]
        await room.heard.until(lambda: room.heard.of(big[0], DocumentParsed))
        small = [await room.upload(b"small %d" % n, f"small-{n}") for n in range(5)]
        for document_id in small:
            await room.heard.end(document_id)
        embedder.may.set()
        for document_id in big:
            assert isinstance(await room.heard.end(document_id), DocumentIndexed)
    assert order == ["big-0", *(f"small-{n}" for n in range(5)), "big-1", "big-2"]


async def test_retry_is_told_apart_from_a_fault(room: Room) -> None:
    """What is away outside is no fault of the file: no number of such attempts ends it."""
    n_calls = 0

    async def read(path: Path, claim: Claim) -> Reading:
        nonlocal n_calls
        n_calls += 1
        if n_calls <= 7:
            raise Retry("the blob store is away", after_s=0.05)
        return await read_lines(path, claim)

    async with room.consuming(), room.learning(HashEmbedder(), read=read):
        assert isinstance(await room.heard.end(await room.upload(b"patience")), DocumentIndexed)
    assert n_calls == 8


async def test_a_document_that_had_its_turn_gives_way_at_a_checkpoint(room: Room) -> None:
    embedder = HashEmbedder()
    embedder.stop_after = 1
    async with room.consuming(), room.learning(embedder, slots=1) as jobs:
        jobs._job._turn_s = 0.0
        long = await room.upload(DATA)
        await room.heard.until(lambda: room.heard.of(long, PassagesEmbedded))
        other = await room.upload(b"waits for its turn")
        embedder.gate.set()
        assert isinstance(await room.heard.end(other), DocumentIndexed)
        assert isinstance(await room.heard.end(long), DocumentIndexed)
    assert [(await room.version(id_))["attempt"] for id_ in (long, other)] == [2, 1]
    assert sum(embedder.counts.values()) <= 96 + 10  # the batch embedded ahead is embedded again
