"""Whose turn it is: fair between tenants, small files first, one holder at a time."""

from __future__ import annotations

import asyncio
from uuid import UUID

from consumers.documents.claims import Claim, claim, hand_over, renew
from consumers.documents.subscriber import documents
from schemas.commands import AddDocument
from schemas.envelope import Envelope
from schemas.ids import new_id
from storage.postgres.unit_of_work import Database

MIB = 1024 * 1024
A, B = new_id(), new_id()


async def register(database: Database, name: str, tenant: UUID = A, size_bytes: int = 10) -> None:
    document_id = new_id()
    body = AddDocument(
        document_id=document_id, name=name, blob_key="k", sha256=document_id.hex * 2, size_bytes=size_bytes
    )
    handle = documents().handle
    assert handle is not None
    async with database.transaction() as work:
        await handle(work, [Envelope(body=body, tenant_id=tenant, user_id=tenant, source="test")])


async def take(database: Database, *, is_light: bool = False, lease_s: float = 60, owner: str = "w") -> Claim | None:
    async with database.transaction() as work:
        return await claim(work, owner=owner, lease_s=lease_s, is_light=is_light)


def _id(held: Claim | None) -> UUID | None:
    return held.document_id if held is not None else None


async def names(database: Database, n: int) -> list[str]:
    claims = [await take(database) for _ in range(n)]
    return [held.name for held in claims if held is not None]


async def grow_old(database: Database, age: str) -> None:
    async with database.transaction() as work:
        await work.execute("UPDATE document_versions SET created_at = created_at - $1::text::interval", age)


async def test_tenants_take_turns_however_much_one_of_them_has(database: Database) -> None:
    for n in range(4):
        await register(database, f"a{n}")
    await register(database, "b0", B)
    await register(database, "b1", B)
    assert await names(database, 7) == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_small_files_overtake_and_a_slot_for_small_files_takes_no_other(database: Database) -> None:
    await register(database, "huge", size_bytes=50 * MIB)
    await register(database, "large", size_bytes=5 * MIB)
    await register(database, "small")
    async with database.transaction() as work:
        await work.execute(
            "UPDATE document_versions SET created_at = created_at - interval '4 min' WHERE size_bytes > 99"
        )
    assert await names(database, 1) == ["small"]
    assert await take(database, is_light=True) is None
    assert await names(database, 3) == ["large", "huge"]


async def test_a_large_file_that_waited_long_enough_is_not_overtaken(database: Database) -> None:
    await register(database, "huge", size_bytes=50 * MIB)
    await grow_old(database, "11 min")
    await register(database, "small")
    assert await names(database, 2) == ["huge", "small"]


async def test_many_who_claim_at_once_never_get_the_same(database: Database) -> None:
    for n in range(8):
        await register(database, f"d{n}")
    claims = await asyncio.gather(*(take(database, owner=f"w{n}") for n in range(10)))
    held = [one.document_id for one in claims if one is not None]
    assert len(held) == len(set(held)) == 8


async def test_an_expired_lease_is_taken_over_and_its_holder_hears_of_it(database: Database) -> None:
    await register(database, "one")
    await register(database, "two")
    first, kept = await take(database), await take(database)
    async with database.transaction() as work:
        await work.execute("UPDATE document_versions SET lease_until = now() WHERE document_id = $1", _id(first))
    second = await take(database, owner="v")
    assert first is not None
    assert second is not None
    assert kept is not None
    assert (second.document_id, second.attempt, second.barren_attempts) == (first.document_id, 2, 2)
    assert await renew(database, [first, kept], lease_s=60) == [first]
    await hand_over(database, first, after_s=0, is_barren=False)  # a stale one has nothing to hand over
    assert await take(database) is None
    await hand_over(database, second, after_s=0, is_barren=False)
    third = await take(database)
    assert third is not None
    assert (third.attempt, third.barren_attempts) == (3, 2)


async def test_who_gave_way_stands_in_line_again(database: Database) -> None:
    await register(database, "first")
    held = await take(database)
    await register(database, "second")
    assert held is not None
    await hand_over(database, held, after_s=0, is_barren=False)
    assert await names(database, 2) == ["second", "first"]


async def test_a_claim_that_must_wait_is_not_given_out(database: Database) -> None:
    await register(database, "later")
    held = await take(database)
    assert held is not None
    await hand_over(database, held, after_s=60, is_barren=True)
    assert await take(database) is None
