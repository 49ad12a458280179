"""Keys as the log tells them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from producers.edge.auth import Authenticator, KeyRing
from producers.edge.problems import Unavailable, database_unavailable
from schemas.errors import Reject
from schemas.events import ApiKeyState
from storage.postgres.identity import hash_key

KEY = "ab" * 32


class Asked:
    """PostgreSQL, as far as the authenticator asks it."""

    def __init__(self, answer: ApiKeyState | Unavailable | None = None) -> None:
        self.answer = answer
        self.n_asked = 0

    async def __call__(self, *_: Any) -> ApiKeyState | None:
        self.n_asked += 1
        if isinstance(self.answer, Unavailable):
            raise self.answer
        return self.answer


def state(**changes: Any) -> ApiKeyState:
    told = {"key_id": uuid4(), "tenant_id": UUID(int=1), "user_id": UUID(int=2), "role": "user", "hash": hash_key(KEY)}
    return ApiKeyState(**{**told, **changes})


def authenticator(ring: KeyRing, asked: Asked) -> Authenticator:
    return Authenticator(ring, asked)  # type: ignore[arg-type]


def header(key: str = KEY) -> bytes:
    return f"Bearer {key}".encode()


def test_a_known_key_is_its_users() -> None:
    ring = KeyRing()
    ring.set(state())
    who = authenticator(ring, Asked()).known(header())
    assert who is not None
    assert (who.tenant_id, who.user_id, who.role) == (UUID(int=1), UUID(int=2), "user")


@pytest.mark.parametrize("given", [None, b"", b"Bearer", b"Bearer x", b"Basic " + b"a" * 64, header(KEY.upper())])
def test_what_is_no_key_is_refused_without_asking(given: bytes | None) -> None:
    with pytest.raises(Reject) as caught:
        authenticator(KeyRing(), Asked()).known(given)
    assert caught.value.status == 401


def test_an_expired_key_is_refused() -> None:
    ring = KeyRing()
    ring.set(state(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with pytest.raises(Reject):
        authenticator(ring, Asked()).known(header())


def test_a_changed_key_is_only_what_it_is_now() -> None:
    ring, first = KeyRing(), state()
    ring.set(first)
    ring.set(state(key_id=first.key_id, hash=hash_key("cd" * 32)))
    assert authenticator(ring, Asked()).known(header()) is None
    assert len(ring) == 1
    ring.remove(first.key_id)
    assert len(ring) == 0


async def test_a_key_that_the_log_has_not_told_is_looked_up_once() -> None:
    asked = Asked(state())
    auth = authenticator(KeyRing(), asked)
    for _ in range(3):
        assert (await auth.look_up(header())).user_id == UUID(int=2)
    assert asked.n_asked == 1


async def test_a_key_that_nobody_has_is_looked_up_once() -> None:
    asked = Asked(None)
    auth = authenticator(KeyRing(), asked)
    for _ in range(3):
        with pytest.raises(Reject) as caught:
            await auth.look_up(header())
        assert caught.value.status == 401
    assert asked.n_asked == 1


async def test_without_postgresql_an_unknown_key_is_a_503_and_asked_again() -> None:
    asked = Asked(database_unavailable())
    auth = authenticator(KeyRing(), asked)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await auth.look_up(header())
    assert asked.n_asked == 2


async def test_a_looked_up_key_ends_when_the_log_says_that_it_is_gone() -> None:
    ring, known = KeyRing(), state()
    auth = authenticator(ring, Asked(known))
    await auth.look_up(header())
    ring.remove(known.key_id)
    with pytest.raises(Reject):
        await auth.look_up(header())
