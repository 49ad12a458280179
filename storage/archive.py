"""The archive: a tenant's events beyond the outbox, as compressed segments in the blob store (design §4).

`tenants/<tenant>/archive/<topic>/<xact_id>-<seq>.jsonl.gz`, named by the position of its first record: one record a
line, as it stood on its topic, in commit order. A tenant's archive is one folder.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from schemas.ids import advisory_key
from schemas.topics import CHAT_EVENTS, KNOWLEDGE_EVENTS, USAGE_EVENTS
from storage.blobs.keys import tenant_prefix
from storage.ports import BlobStore

ARCHIVED = (CHAT_EVENTS, KNOWLEDGE_EVENTS, USAGE_EVENTS)
"""The topics whose events are kept for ever; what else leaves the outbox is gone."""


@dataclass(frozen=True, slots=True)
class ArchivedRecord:
    """One record as it stood on its topic; `position` is its outbox row's (xact_id, seq)."""

    position: tuple[int, int]
    id: UUID
    key: str
    headers: dict[str, str]
    value: bytes


def archive_lock(tenant_id: UUID) -> int:
    """The advisory lock of a tenant's events: exclusive where they move to the archive, shared to read them all."""
    return advisory_key("archive", tenant_id)


def archive_prefix(tenant_id: UUID) -> str:
    """The folder of a tenant's archive."""
    return f"{tenant_prefix(tenant_id)}archive/"


async def write_segment(blobs: BlobStore, tenant_id: UUID, topic: str, records: Sequence[ArchivedRecord]) -> str:
    """Stores the records, in order of position, as one segment; its key. Raises: Retry.

    Repeated from the same first record on, it replaces what it wrote before.
    """
    xact_id, seq = records[0].position
    key = f"{archive_prefix(tenant_id)}{topic}/{xact_id:020d}-{seq:020d}.jsonl.gz"
    await blobs.put_bytes(key, await asyncio.to_thread(_packed, records))
    return key


async def read_archive(blobs: BlobStore, tenant_id: UUID, topic: str) -> AsyncIterator[list[ArchivedRecord]]:
    """The records of each segment, the oldest segment first. Raises: Retry."""
    async for key in blobs.list_keys(f"{archive_prefix(tenant_id)}{topic}/"):
        yield await asyncio.to_thread(_unpacked, await blobs.read_bytes(key))


def _packed(records: Sequence[ArchivedRecord]) -> bytes:
    lines = [
        orjson.dumps(
            {
                "position": list(record.position),
                "id": str(record.id),
                "key": record.key,
                "headers": record.headers,
                "value": record.value.decode(),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for record in records
    ]
    return gzip.compress(b"".join(lines), mtime=0)


def _unpacked(data: bytes) -> list[ArchivedRecord]:
    found = []
    for line in gzip.decompress(data).splitlines():
        read = orjson.loads(line)
        xact_id, seq = read["position"]
        found.append(
            ArchivedRecord((xact_id, seq), UUID(read["id"]), read["key"], read["headers"], read["value"].encode())
        )
    return found
