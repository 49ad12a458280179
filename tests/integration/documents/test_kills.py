"""A worker that is killed while it learns a long PDF, as often as RAGLINE_TEST_KILLS: nothing changes but the time."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from schemas.events import DocumentIndexed, DocumentParsed, PassagesEmbedded
from storage.vectors.names import table_name
from tests.integration.documents.room import HashEmbedder, Room
from tests.integration.documents.test_deaths import worker
from tests.unit.consumers.documents.parse.drawn_pdf import column, pdf

N_KILLS = int(os.environ.get("RAGLINE_TEST_KILLS", "1"))
"""Ten, and with them 600 pages, take minutes."""
N_PAGES = 600 if N_KILLS > 1 else 60
BATCH = 10


def book() -> bytes:
    return pdf([column([f"Page {n} line {line} speaks of {n * 97 + line}." for line in range(9)], 50, 700)
                for n in range(N_PAGES)])  # fmt: skip


async def learnt(room: Room, document_id: UUID) -> tuple[list[tuple[Any, ...]], dict[str, object]]:
    """The passages in order, and what is counted of the version."""
    async with room.database.transaction() as work:
        rows = await work.fetch(
            "SELECT ordinal, text, page, span_start, span_end, n_tokens, content_hash FROM passages"
            " WHERE document_id = $1 ORDER BY ordinal",
            document_id,
        )
    version = await room.version(document_id)
    counts = ("status", "n_pages", "n_passages", "n_embedded", "n_tokens", "n_batches")
    return [tuple(row.values()) for row in rows], {name: version[name] for name in counts}


@pytest.mark.timeout(120 + 80 * N_KILLS)
async def test_kills_change_nothing_but_time(room: Room) -> None:
    data = book()
    async with room.consuming(), room.relaying():
        document_id = await room.upload(data, "book.pdf")
        for number in range(N_KILLS):
            async with worker(room, f"real-{number}") as process:
                if number:  # the first one dies while it reads
                    await room.heard.more(document_id, PassagesEmbedded, 2)
                process.kill()
        async with worker(room, "real-last"):
            assert isinstance(await room.heard.end(document_id, timeout_s=120), DocumentIndexed)
        killed = await learnt(room, document_id)
        told = room.heard.of(document_id, PassagesEmbedded)
        n_rows = await room.vectors.count(table_name(room.tenant_id, "hash-16"))
        await room.delete(document_id)
        async with room.learning(HashEmbedder(), read=None):
            undisturbed = await room.upload(data, "book.pdf")
            assert isinstance(await room.heard.end(undisturbed, timeout_s=120), DocumentIndexed)
        assert await learnt(room, undisturbed) == killed
    counts = killed[1]
    assert (counts["status"], counts["n_pages"], counts["n_embedded"]) == ("indexed", N_PAGES, n_rows)
    # What a killed worker committed the relay publishes again, under the same id: the events are a set.
    n_stored = len({(event.n_embedded, event.eta_s) for event in told})
    assert n_stored == len({event.n_embedded for event in told}) == counts["n_batches"], "each batch is stored once"
    assert len(room.heard.of(document_id, DocumentParsed)) == 1
    embedded = Counter((room.folder / "embedded").read_text().splitlines())
    # A killed attempt can lose the batch it was storing and the one it embedded ahead, never more.
    n_lines = sum(text.count("\n") + 1 for _, text, *_ in killed[0])
    assert n_lines <= sum(embedded.values()) <= n_lines + N_KILLS * 2 * BATCH * 30
    batches = f"{counts['n_batches']} batches needed, {n_stored} stored"
    print(f"{N_KILLS} kills: {batches}, {n_rows} vectors; {sum(embedded.values())} lines embedded for {n_lines}")
