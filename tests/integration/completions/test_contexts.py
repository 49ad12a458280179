"""What the model is sent: the preview's messages, the tenant's instructions, and queries that stand for themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from providers.catalog import build_chat_models
from providers.tokens import TiktokenCounter
from retrieval.preparing import MAX_HISTORY, Conversation
from schemas.commands import Generation, ResumeMessage
from schemas.errors import Retry
from schemas.ids import new_id
from storage.postgres.conversations import leaf_of, library_of, path_to
from tests.integration.completions.rig import USER, Rig, spec
from tests.library import add_document
from tests.provider_server import ProviderServer

HERONS = "The heron stands in the shallow water and waits for fish."
STORKS = "The stork walks over wet meadows and looks for frogs."


async def learn(rig: Rig, text: str, *, tenant_id: UUID, kind: str = "document") -> UUID:
    return await add_document(rig.database, rig.vectors, rig.embedder, tenant_id, [text], kind=kind)


async def previewed(rig: Rig, session_id: UUID, question: str, model: Any, tenant_id: UUID) -> list[dict[str, str]]:
    """As `GET /sessions/{id}/context` does it."""
    models = build_chat_models([model], counter=TiktokenCounter())
    async with rig.database.transaction(tenant_id) as work:
        found = await leaf_of(work, session_id, user_id=USER)
        assert found is not None
        turns = [] if found[0] is None else await path_to(work, session_id, found[0], limit=MAX_HISTORY)
        library = await library_of(work)
    prepared = await rig.contexts(rig.database, models).prepare(
        tenant_id, Conversation(question, turns, library), model=models.default, generation=Generation()
    )
    return [{"role": m.role, "content": m.content} for m in prepared.assembled.request.messages]


async def test_the_model_is_sent_what_the_preview_shows(rig: Rig, provider: ProviderServer) -> None:
    tenant = new_id()
    provider.set(text="It waits for fish [1].")
    await learn(rig, HERONS, tenant_id=tenant)
    await learn(rig, STORKS, tenant_id=tenant, kind="curated_dataset")
    await learn(rig, "Call every bird by its Latin name.", tenant_id=tenant, kind="custom_instructions")
    async with rig.worker(spec(provider.url)):
        session = await rig.session(tenant_id=tenant)
        first = await rig.ask(session, "What does the heron do?", tenant_id=tenant)
        await rig.reader.ended(first.completion_id)
        shown = await previewed(rig, session, "And the stork?", spec(provider.url), tenant)
        second = await rig.ask(session, "And the stork?", tenant_id=tenant)
        await rig.reader.ended(second.completion_id)
    sent = provider.stats.requests[-1]["messages"]
    assert sent == shown
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert "Latin name" in sent[0]["content"]
    assert "Latin name" not in sent[-1]["content"]
    assert STORKS in sent[-1]["content"]
    plan = (await rig.completion(second.completion_id))["context"]
    assert plan["query"] == "And the stork?\nWhat does the heron do?"
    assert len(plan["instructions"]) == 1
    assert provider.stats.calls == 2  # no model beside the one that answers


async def test_a_resume_sends_what_the_first_call_was_sent(rig: Rig, provider: ProviderServer) -> None:
    tenant = new_id()
    await learn(rig, HERONS, tenant_id=tenant)
    await learn(rig, "Answer in rhymes.", tenant_id=tenant, kind="custom_instructions")
    provider.set(n_tokens=20, error_after=10, error_code="invalid_request")
    async with rig.worker(spec(provider.url)):
        session = await rig.session(tenant_id=tenant)
        failed = await rig.ask(session, "What does the heron do?", tenant_id=tenant)
        await rig.reader.ended(failed.completion_id)
        await learn(rig, "Answer in prose.", tenant_id=tenant, kind="custom_instructions")
        await learn(rig, f"{HERONS} It is grey.", tenant_id=tenant)
        provider.set(error_after=-1)
        resumed = new_id()
        await rig.send(ResumeMessage(session_id=session, completion_id=resumed), tenant_id=tenant)
        await rig.reader.ended(resumed)
    before, after = (request["messages"] for request in provider.stats.requests)
    assert after[:-1] == before
    assert after[-1]["role"] == "assistant"


@asynccontextmanager
async def followed_up(rig: Rig, provider: ProviderServer, **auxiliary: Any) -> AsyncIterator[dict[str, Any]]:
    """The completion of a second question, with an auxiliary model that does as told."""
    tenant = new_id()
    await learn(rig, HERONS, tenant_id=tenant)
    provider.set("aux", **auxiliary)
    async with rig.worker(spec(provider.url), spec(provider.url, "aux"), auxiliary="aux"):
        session = await rig.session(tenant_id=tenant)
        for question in ("What does the heron do?", "And why?"):
            asked = await rig.ask(session, question, tenant_id=tenant)
            await rig.reader.ended(asked.completion_id)
    yield dict(await rig.completion(asked.completion_id))


async def test_the_auxiliary_model_rewrites_a_follow_up_once(rig: Rig, provider: ProviderServer) -> None:
    async with followed_up(rig, provider, text='"Why does the heron wait for fish?"\n') as completion:
        assert completion["context"]["query"] == "Why does the heron wait for fish?"
    asked = [request for request in provider.stats.requests if request["model"] == "aux"]
    assert len(asked) == 1
    assert "What does the heron do?" in asked[0]["messages"][-1]["content"]


async def test_where_it_fails_the_rule_does(rig: Rig, provider: ProviderServer) -> None:
    async with followed_up(rig, provider, error_status=500) as completion:
        assert completion["context"]["query"] == "And why?\nWhat does the heron do?"
        assert [body["purpose"] for body in await bill(rig, completion)] == ["answer"], "what is refused costs nothing"


async def bill(rig: Rig, completion: dict[str, Any]) -> list[dict[str, Any]]:
    """What was recorded of it, in order; the completion has the sum."""
    bodies = [row["body"] for row in await rig.usage(completion["id"])]
    for kind in ("input_tokens", "output_tokens"):
        assert completion[kind] == sum(body[kind] for body in bodies)
    return sorted(bodies, key=lambda body: (body["attempt"], body["purpose"]))


async def test_the_auxiliary_models_tokens_are_on_the_bill(rig: Rig, provider: ProviderServer) -> None:
    async with followed_up(rig, provider, text="Why does the heron wait?") as completion:
        answer, query = await bill(rig, completion)
    assert (query["purpose"], query["model"], query["estimated"]) == ("query", "aux", False)
    assert query["input_tokens"] > 0 < query["output_tokens"]
    assert (answer["purpose"], answer["model"]) == ("answer", "test")


async def test_they_are_counted_once_an_attempt_however_often_it_is_tried(
    rig: Rig, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search fails after the query is written, then the answer after the context is stored."""
    find, n_found = rig.vectors.search, 0

    async def away_once(*args: Any, **asked: Any) -> Any:
        nonlocal n_found
        n_found += 1
        if n_found == 2:  # the second question's first search
            provider.set("test", drop_after=2, times=1, n_tokens=5)
            raise Retry("the index is away")
        return await find(*args, **asked)

    monkeypatch.setattr(rig.vectors, "search", away_once)
    async with followed_up(rig, provider, text="Why does the heron wait?") as completion:
        recorded = [(body["attempt"], body["purpose"]) for body in await bill(rig, completion)]
    assert recorded == [(1, "query"), (2, "answer"), (2, "query"), (3, "answer")]
