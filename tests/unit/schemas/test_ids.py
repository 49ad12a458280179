"""Identifiers: new ones sort by time, derived ones are the same everywhere and for ever."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import advisory_key, canonical_hash, derived_id, new_id

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


def test_new_ids_are_version_7_unique_and_sorted() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert {each.version for each in ids} == {7}
    assert all(type(each) is UUID for each in ids)
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_a_derived_id_never_changes() -> None:
    """Inbox rows and waiting edges of earlier versions rely on this very value."""
    assert derived_id("tenant", "user", "POST /api/v1/sessions", "key-1") == UUID(
        "ebadb37e-cd8a-59f2-b273-3a5b868cae5a"
    )
    assert advisory_key("session", 1) == 7237358418062237537


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=4))
def test_a_derived_id_depends_on_every_part_and_on_their_borders(parts: list[str]) -> None:
    assert derived_id(*parts) == derived_id(*parts)
    assert derived_id(*parts).version == 5
    assert derived_id(*parts) != derived_id("".join(parts))
    assert derived_id(*parts) != derived_id(*parts[:-1], parts[-1] + "x")


@given(json_values)
def test_an_advisory_key_fits_a_bigint(part: object) -> None:
    assert -(2**63) <= advisory_key("lock", part) < 2**63


@given(st.dictionaries(st.text("abc", max_size=3), json_values, min_size=2, max_size=4))
def test_the_canonical_hash_does_not_see_the_order_of_keys(body: dict[str, object]) -> None:
    shuffled = dict(reversed(list(body.items())))
    assert canonical_hash(shuffled) == canonical_hash(body)
    assert canonical_hash(body | {"d": 1}) != canonical_hash(body | {"d": 2})


def test_the_canonical_hash_takes_ids_as_text() -> None:
    id_ = UUID(int=1)
    assert canonical_hash({"id": id_}) == canonical_hash({"id": str(id_)})
