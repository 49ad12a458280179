"""A model that is silent, refuses or fails: tried again, another one asked, or an honest end; no character twice."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from providers.catalog import ModelSpec
from providers.ports import ProviderError
from schemas.commands import Generation
from schemas.ids import new_id
from schemas.stream_fold import FoldState
from tests.integration.completions.rig import TENANT, Rig, spec
from tests.provider_server import ProviderServer, answer_text


def with_fallback(provider: ProviderServer) -> tuple[ModelSpec, ModelSpec]:
    return spec(provider.url, "first", fallbacks=("second",)), spec(provider.url, "second")


async def usage(rig: Rig, completion_id: UUID) -> list[tuple[int, str]]:
    """Attempt and model of every call that was paid for."""
    found = [row["body"] for row in await rig.usage(completion_id)]
    return sorted((body["attempt"], body["model"]) for body in found)


def status(state: FoldState) -> tuple[str, str | None]:
    assert state.ended is not None
    return state.ended.status, state.ended.error.code if state.ended.error is not None else None


async def test_a_provider_that_falls_silent_is_given_up_and_its_text_goes_on(
    rig: Rig, provider: ProviderServer
) -> None:
    provider.set(n_tokens=80, stall_after=30, times=1)
    async with rig.worker(spec(provider.url, stall_timeout_s=0.5)):
        asked = await rig.ask(await rig.session(), "Silent once")
        state = await rig.reader.ended(asked.completion_id)
    assert status(state) == ("complete", None)
    assert (state.attempt, state.epoch) == (2, 0)
    assert rig.reader.texts[asked.completion_id] == answer_text("Silent once", provider.behaviours["*"])
    assert provider.stats.disconnects == 1


async def test_a_provider_that_never_begins_is_given_up(rig: Rig, provider: ProviderServer) -> None:
    provider.set(hang=True, times=1)
    async with rig.worker(spec(provider.url, timeout_s=0.5)):
        asked = await rig.ask(await rig.session(), "Hung once")
        state = await rig.reader.ended(asked.completion_id)
    assert (status(state), state.attempt) == (("complete", None), 2)


async def test_a_providers_retry_after_is_kept(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=10, error_status=429, retry_after="2", times=1)
    async with rig.worker(spec(provider.url)):
        began = time.monotonic()
        asked = await rig.ask(await rig.session(), "Limited")
        state = await rig.reader.ended(asked.completion_id)
    assert status(state) == ("complete", None)
    assert time.monotonic() - began >= 2.0
    assert provider.stats.calls == 2


async def test_what_one_model_began_another_goes_on_with(rig: Rig, provider: ProviderServer) -> None:
    provider.set("first", n_tokens=60, drop_after=20, times=1)
    async with rig.worker(*with_fallback(provider)):
        asked = await rig.ask(await rig.session(), "Begun here")
        await rig.reader.has_text(asked.completion_id, 20)
        provider.set("first", error_status=500, drop_after=-1, times=-1)
        provider.set("second", n_tokens=60)
        state = await rig.reader.ended(asked.completion_id)
    assert status(state) == ("complete", None)
    assert state.epoch == 0
    text = answer_text("Begun here", provider.behaviours["second"])
    assert rig.reader.texts[asked.completion_id] == text
    message = await rig.message(asked.ai_message_id)
    assert (message["content"], message["model"]) == (text, "second")
    paid = await usage(rig, asked.completion_id)
    assert (paid[0], paid[-1]) == ((1, "first"), (state.attempt, "second"))
    assert len({attempt for attempt, _ in paid}) == len(paid)


@pytest.mark.parametrize(("error_status", "n_calls"), [(401, 1), (500, 5)])
async def test_a_model_that_cannot_answer_is_replaced(
    rig: Rig, provider: ProviderServer, error_status: int, n_calls: int
) -> None:
    provider.set("first", error_status=error_status)
    async with rig.worker(*with_fallback(provider)):
        asked = await rig.ask(await rig.session(), "Replaced", generation=Generation(model="first"))
        state = await rig.reader.ended(asked.completion_id)
    assert status(state) == ("complete", None)
    assert [body["model"] for body in provider.stats.requests] == ["first"] * n_calls + ["second"]
    assert (await rig.message(asked.ai_message_id))["model"] == "second"


async def test_where_nobody_can_answer_the_last_model_says_why(rig: Rig, provider: ProviderServer) -> None:
    provider.set("first", error_status=401)
    provider.set("second", error_status=503)
    async with rig.worker(*with_fallback(provider)):
        session = await rig.session()
        asked = await rig.ask(session, "Nobody")
        state = await rig.reader.ended(asked.completion_id)
        assert status(state) == ("failed", "attempts_exhausted")
        provider.reset()
        again = await rig.ask(session, "And now?")
        assert status(await rig.reader.ended(again.completion_id)) == ("complete", None)
    assert (await rig.message(again.ai_message_id))["model"] == "first"
    assert (await rig.message(asked.ai_message_id))["error_code"] == "attempts_exhausted"


async def test_an_embedding_model_that_refuses_ends_the_answer_with_its_reason(
    rig: Rig, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise ProviderError("auth", "the key is wrong", retryable=False)

    monkeypatch.setattr(rig.embedder, "embed", refuse)
    async with rig.database.transaction() as work:
        await work.execute(
            "INSERT INTO documents (id, tenant_id, user_id, name, active_version) VALUES ($1, $2, $1, 'any', 1)",
            new_id(),
            TENANT,
        )
    async with rig.worker(spec(provider.url)):
        asked = await rig.ask(await rig.session(), "What do the documents say?")
        state = await rig.reader.ended(asked.completion_id)
    assert status(state) == ("failed", "auth")
    assert state.ended is not None
    assert state.ended.error is not None
    assert state.ended.error.message == "the query could not be embedded: the key is wrong"
    assert provider.stats.calls == 0
