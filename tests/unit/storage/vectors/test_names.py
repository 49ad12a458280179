from __future__ import annotations

import re
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from storage.vectors import table_name

TENANT = UUID("0199a1b2-0000-7000-8000-000000000001")


def test_a_name_says_whose_and_which() -> None:
    assert table_name(TENANT, "wordllama-256").startswith("0199a1b2000070008000000000000001_wordllama-256_")


@given(st.uuids(), st.uuids(), st.text(max_size=80), st.text(max_size=80))
def test_names_are_short_plain_and_apart(tenant: UUID, other: UUID, model: str, other_model: str) -> None:
    name = table_name(tenant, model)
    assert re.fullmatch(r"[a-z0-9_-]{1,96}", name)
    assert (name == table_name(other, other_model)) == ((tenant, model) == (other, other_model))
