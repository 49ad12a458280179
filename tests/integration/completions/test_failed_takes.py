"""A taker that fails between its claim and its first word: what its predecessor wrote is neither lost nor free."""

from __future__ import annotations

import asyncio

import pytest

from consumers.completions import attempt
from consumers.completions.claims import claim, expire_leases
from consumers.completions.job import Job
from consumers.completions.take import Taken, fold_log
from consumers.tenant_limit import TenantLimit
from schemas.errors import Retry
from storage.log.producer import Ack
from tests.integration.completions.rig import Rig, spec
from tests.provider_server import ProviderServer, answer_text


@pytest.mark.parametrize("prefill", [True, False])
async def test_the_usage_of_a_dead_attempt_outlives_its_dead_taker(
    rig: Rig, provider: ProviderServer, *, prefill: bool
) -> None:
    provider.set(n_tokens=120, tokens_per_s=100)
    model = spec(provider.url, prefill=prefill)
    async with rig.worker(model, name="worker-a") as first:
        asked = await rig.ask(await rig.session(), "Who pays?")
        await rig.reader.has_text(asked.completion_id, 300)
        await first.die()
    await expire_leases(rig.database, owner="worker-a")
    (claimed,) = await claim(
        rig.database, owner="dead", lease_s=0.1, limit=1, running=TenantLimit(1), may_take_over=lambda: True
    )
    assert (claimed.id, claimed.attempt) == (asked.completion_id, 2)
    async with rig.worker(model, name="worker-b"):
        state = await rig.reader.ended(asked.completion_id)
    assert state.attempt == 3
    usage = {row["body"]["attempt"]: row["body"] for row in await rig.usage(asked.completion_id)}
    assert usage.keys() == {1, 2, 3}
    assert usage[1]["output_tokens"] > 0
    assert usage[2]["output_tokens"] == 0
    assert [usage[n]["estimated"] for n in (1, 2, 3)] == [True, True, False]


async def test_a_taker_that_could_not_read_the_log_leaves_the_checkpoint_as_it_was(
    rig: Rig, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.set(n_tokens=250, tokens_per_s=100)
    failed: list[Job] = []

    async def fails_once(bootstrap: str, job: Job, opened: asyncio.Future[Ack]) -> Taken | None:
        if not failed:
            failed.append(job)
            await opened
            raise Retry("the broker went away")
        return await fold_log(bootstrap, job, opened)

    monkeypatch.setattr(attempt, "fold_log", fails_once)
    model = spec(provider.url)
    async with rig.worker(model, name="worker-a", checkpoint_s=1.0) as first:
        asked = await rig.ask(await rig.session(), "What stands?")
        await rig.reader.has_text(asked.completion_id, 800)
        await first.die()
    checkpoint = await rig.completion(asked.completion_id)
    assert 0 < checkpoint["checkpoint_end"] < len(rig.reader.texts[asked.completion_id])
    async with rig.worker(model, name="worker-b"):
        state = await rig.reader.ended(asked.completion_id)
    assert [job.attempt for job in failed] == [2]
    text = answer_text("What stands?", provider.behaviours["*"])
    assert rig.reader.texts[asked.completion_id] == text
    assert (state.epoch, state.end, state.seq) == (0, len(text), len(state.chunk_ends))
    completion = await rig.completion(asked.completion_id)
    assert completion["chunk_ends"] == list(state.chunk_ends)
