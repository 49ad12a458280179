"""Vectors by what they were made of: tenant, model (its name holds the dimensions) and SHA-256 of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from storage.postgres.unit_of_work import UnitOfWork

_TRIMMED_AT_ONCE = 1_000

# The day of the last use is kept, and written at most once in a day. Who is writing it elsewhere is not waited for.
_TOUCH = """
UPDATE embedding_cache SET used_on = current_date WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM embedding_cache
  WHERE tenant_id = $1 AND model = $2 AND content_hash = ANY($3::bytea[]) AND used_on < current_date
  FOR UPDATE SKIP LOCKED))
"""
_TRIM = """
DELETE FROM embedding_cache WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM embedding_cache WHERE used_on < current_date - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A vector (float32, little-endian), and whether it was used today already."""

    vector: bytes
    is_fresh: bool


async def find(work: UnitOfWork, model: str, hashes: Sequence[str]) -> dict[str, Kept]:
    """Those of the scope's tenant that are known, by the text's hash in hex."""
    rows = await work.fetch(
        "SELECT content_hash, vector, used_on = current_date AS is_fresh FROM embedding_cache"
        " WHERE tenant_id = $1 AND model = $2 AND content_hash = ANY($3::bytea[])",
        work.tenant_id,
        model,
        _bytes(hashes),
    )
    return {row["content_hash"].hex(): Kept(row["vector"], row["is_fresh"]) for row in rows}


async def touch(work: UnitOfWork, tenant_id: UUID, model: str, hashes: Sequence[str]) -> None:
    """They were used today."""
    await work.execute(_TOUCH, tenant_id, model, _bytes(hashes))


async def store(work: UnitOfWork, tenant_id: UUID, model: str, vectors: Mapping[str, bytes]) -> None:
    """Keeps vectors by their texts' hashes; what is there already stays."""
    hashes = sorted(vectors)  # in one order, so that two who store the same wait for each other instead of for ever
    await work.execute(
        "INSERT INTO embedding_cache (tenant_id, model, content_hash, vector)"
        " SELECT $1, $2, content_hash, vector FROM unnest($3::bytea[], $4::bytea[]) AS t(content_hash, vector)"
        " ON CONFLICT DO NOTHING",
        tenant_id,
        model,
        _bytes(hashes),
        [vectors[one] for one in hashes],
    )


async def trim(work: UnitOfWork, kept: timedelta) -> int:
    """Removes some that were not used for so long; how many: none when there are no more."""
    return await work.execute(_TRIM, kept, _TRIMMED_AT_ONCE)


def _bytes(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]
