"""An answer through any death of its worker: real broker, real PostgreSQL, a provider that speaks the protocol."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from retrieval.search import Searcher
from schemas.chunks import AttemptOpened
from schemas.commands import CancelCompletion, DeleteSession, ResumeMessage
from schemas.ids import new_id
from tests.integration.completions.rig import Rig, spec
from tests.provider_server import ProviderServer, answer_text


async def test_an_answer_is_streamed_stored_and_billed_once(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=40, tokens_per_s=200)
    async with rig.worker(spec(provider.url)):
        asked = await rig.ask(await rig.session(), "What is a trace?")
        state = await rig.reader.ended(asked.completion_id)
    text = answer_text("What is a trace?", provider.behaviours["*"])
    assert rig.reader.texts[asked.completion_id] == text
    assert state.ended is not None
    assert (state.ended.status, state.ended.end) == ("complete", len(text))
    message = await rig.message(asked.ai_message_id)
    assert (message["status"], message["content"], message["model"]) == ("complete", text, "test")
    usage = await rig.usage(asked.completion_id)
    assert len(usage) == 1
    assert usage[0]["body"]["estimated"] is False
    assert message["usage"]["output_tokens"] == usage[0]["body"]["output_tokens"]
    completion = await rig.completion(asked.completion_id)
    assert completion["chunk_ends"] == list(state.chunk_ends)


async def test_a_tenant_without_documents_is_answered_without_a_search(
    rig: Rig, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(Searcher, "find", refused)
    async with rig.worker(spec(provider.url)):
        asked = await rig.ask(await rig.session(), "What is a trace?")
        state = await rig.reader.ended(asked.completion_id)
    assert state.ended is not None
    assert state.ended.status == "complete"


@pytest.mark.parametrize("prefill", [True, False])
async def test_a_dead_workers_answer_goes_on(rig: Rig, provider: ProviderServer, *, prefill: bool) -> None:
    provider.set(n_tokens=150, tokens_per_s=100)
    model = spec(provider.url, prefill=prefill)
    async with rig.worker(model, name="worker-a") as first, rig.worker(model, name="worker-b", lease_s=1.5) as second:
        asked = await rig.ask(await rig.session(), "Tell me much")
        await rig.reader.has_text(asked.completion_id, 200)
        holder, other = (first, second) if first.runner.n_running else (second, first)
        seen = rig.reader.texts[asked.completion_id]
        await holder.die()
        state = await rig.reader.ended(asked.completion_id)
        assert other.failures == []
    text = answer_text("Tell me much", provider.behaviours["*"])
    assert rig.reader.texts[asked.completion_id] == text
    assert text.startswith(seen)
    assert rig.reader.resets.get(asked.completion_id, 0) == (0 if prefill else 1)
    assert state.attempt == 2
    assert (await rig.message(asked.ai_message_id))["content"] == text
    usage = [row["body"] for row in await rig.usage(asked.completion_id)]
    assert sorted((one["attempt"], one["estimated"]) for one in usage) == [(1, True), (2, False)]


async def test_shutdown_hands_over_without_a_gap(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=120, tokens_per_s=100)
    model = spec(provider.url)
    async with rig.worker(model, name="worker-a", lease_s=30) as first:
        asked = await rig.ask(await rig.session(), "Hand over")
        await rig.reader.has_text(asked.completion_id, 100)
        await first.stop()
        async with rig.worker(model, name="worker-b", lease_s=30):
            state = await rig.reader.ended(asked.completion_id)
    assert rig.reader.texts[asked.completion_id] == answer_text("Hand over", provider.behaviours["*"])
    assert state.epoch == 0


async def test_cancel_reaches_the_provider_and_keeps_the_text(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=500, tokens_per_s=50)
    async with rig.worker(spec(provider.url)):
        session = await rig.session()
        asked = await rig.ask(session, "Long one")
        await rig.reader.has_text(asked.completion_id, 50)
        await rig.send(CancelCompletion(session_id=session, completion_id=asked.completion_id))
        await provider.wait_for_disconnects(1, timeout_s=1.5)
        state = await rig.reader.ended(asked.completion_id)
    assert state.ended is not None
    assert state.ended.status == "cancelled"
    message = await rig.message(asked.ai_message_id)
    assert message["status"] == "cancelled"
    assert message["partial_content"] == rig.reader.texts[asked.completion_id]
    assert len(await rig.usage(asked.completion_id)) == 1


async def test_a_dropped_connection_and_a_refusal_are_tried_again(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=60, drop_after=20, times=1)
    async with rig.worker(spec(provider.url)):
        dropped = await rig.ask(await rig.session(), "Dropped once")
        state = await rig.reader.ended(dropped.completion_id)
        assert rig.reader.texts[dropped.completion_id] == answer_text("Dropped once", provider.behaviours["*"])
        assert (state.attempt, state.epoch) == (2, 0)
        provider.set(n_tokens=20, error_status=429, retry_after="1", times=2, drop_after=-1)
        limited = await rig.ask(await rig.session(), "Limited twice")
        state = await rig.reader.ended(limited.completion_id)
    assert state.ended is not None
    assert (state.ended.status, state.attempt) == ("complete", 3)


async def test_a_model_that_never_answers_fails_honestly_and_the_next_turn_works(
    rig: Rig, provider: ProviderServer
) -> None:
    provider.set(error_status=503, error_code="overloaded", retry_after="0")
    async with rig.worker(spec(provider.url)):
        session = await rig.session()
        failed = await rig.ask(session, "Never")
        state = await rig.reader.ended(failed.completion_id)
        assert state.ended is not None
        assert state.ended.error is not None
        assert (state.ended.status, state.ended.error.code) == ("failed", "attempts_exhausted")
        provider.set(error_status=0)
        fine = await rig.ask(session, "Again")
        state = await rig.reader.ended(fine.completion_id)
    assert state.ended is not None
    assert state.ended.status == "complete"
    assert (await rig.message(failed.ai_message_id))["error_code"] == "attempts_exhausted"


async def test_one_answer_at_a_time_in_a_session_in_order(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=30, tokens_per_s=100)
    async with rig.worker(spec(provider.url), name="worker-a"), rig.worker(spec(provider.url), name="worker-b"):
        session = await rig.session()
        asked = [await rig.ask(session, f"Question {n}") for n in range(4)]
        for one in asked:
            await rig.reader.ended(one.completion_id)
    rows = [await rig.completion(one.completion_id) for one in asked]
    for before, after in itertools.pairwise(rows):
        assert before["finished_at"] <= after["finished_at"]
    assert {row["attempt"] for row in rows} == {1}


async def test_delete_while_running_stores_nothing_and_tells_readers(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=500, tokens_per_s=50)
    async with rig.worker(spec(provider.url)):
        session = await rig.session()
        asked = await rig.ask(session, "Gone")
        await rig.reader.has_text(asked.completion_id, 50)
        await rig.send(DeleteSession(session_id=session))
        state = await rig.reader.ended(asked.completion_id)
    assert state.ended is not None
    assert state.ended.status == "cancelled"
    message = await rig.message(asked.ai_message_id)
    assert (message["content"], message["partial_content"]) == ("", None)
    assert len(await rig.usage(asked.completion_id)) == 1


async def test_resume_continues_a_cancelled_answer_in_a_new_completion(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=100, tokens_per_s=80)
    async with rig.worker(spec(provider.url)):
        session = await rig.session()
        asked = await rig.ask(session, "Resumed")
        await rig.reader.has_text(asked.completion_id, 80)
        await rig.send(CancelCompletion(session_id=session, completion_id=asked.completion_id))
        await rig.reader.ended(asked.completion_id)
        kept = (await rig.message(asked.ai_message_id))["partial_content"]
        again = ResumeMessage(session_id=session, completion_id=new_id())
        await rig.send(again)
        state = await rig.reader.ended(again.completion_id)
    text = answer_text("Resumed", provider.behaviours["*"])
    assert state.ended is not None
    assert (state.ended.status, state.ended.end) == ("complete", len(text))
    assert (await rig.message(asked.ai_message_id))["content"] == text
    assert text.startswith(kept)


async def test_a_frozen_worker_that_wakes_up_writes_nothing_that_counts(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=120, tokens_per_s=60)
    model = spec(provider.url)
    async with rig.worker(model, name="worker-a", lease_s=1.0, checkpoint_s=30) as frozen:
        asked = await rig.ask(await rig.session(), "Frozen")
        await rig.reader.has_text(asked.completion_id, 60)
        # its checkpoints never come, so its lease ends while it goes on writing
        async with rig.worker(model, name="worker-b"):
            state = await rig.reader.ended(asked.completion_id)
            async with asyncio.timeout(10):
                while frozen.runner.n_running:
                    await asyncio.sleep(0.1)
    opened = [r for r in rig.reader.records[asked.completion_id] if isinstance(r, AttemptOpened)]
    assert len(opened) >= 2
    assert state.attempt >= 2
    assert rig.reader.texts[asked.completion_id] == answer_text("Frozen", provider.behaviours["*"])
    assert (await rig.message(asked.ai_message_id))["content"] == rig.reader.texts[asked.completion_id]


@pytest.mark.parametrize("prefill", [True, False])
async def test_a_taker_that_lost_the_log_opens_an_epoch_of_its_own(
    rig: Rig, provider: ProviderServer, *, prefill: bool
) -> None:
    provider.set(n_tokens=150, tokens_per_s=100)
    model = spec(provider.url, prefill=prefill)
    async with rig.worker(model, name="worker-a") as first:
        asked = await rig.ask(await rig.session(), "Lost log")
        await rig.reader.has_text(asked.completion_id, 300)
        await first.die()
    await rig.lose_chunks()
    async with rig.worker(model, name="worker-b"):
        state = await rig.reader.ended(asked.completion_id)
    text = answer_text("Lost log", provider.behaviours["*"])
    assert rig.reader.texts[asked.completion_id] == text
    assert (state.attempt, state.epoch) == (2, 2)
    assert rig.reader.resets[asked.completion_id] == 1
    assert (await rig.message(asked.ai_message_id))["content"] == text
