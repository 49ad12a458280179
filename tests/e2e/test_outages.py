"""Processes end and servers die under people who talk and upload: nobody sees an error, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import asyncpg
import pytest

from tests.chaos.checks import usage_faults
from tests.chaos.evidence import gather, open_work, told_of
from tests.chaos.striker import thaw
from tests.e2e.conversing import ANSWER, SHORT_ANSWER, TOKENS_PER_S, Clients
from tests.e2e.striking import (
    How,
    freeze_between_transactions,
    is_back,
    outage,
    pids,
    replaced,
    until,
    urls,
    worker_of_slot,
)
from tests.e2e.watching import Posted, Watched, Watchers, watching
from tests.provider_server.process import provider_process
from tests.stack import DevStack, running

pytestmark = pytest.mark.timeout(240)

FROZEN_S = 8.0
OVER_THE_USUAL_S = 0.05
REFUSED_WITHIN_S = 2.0
TAKEN_OVER_WITHIN_S = 5.0
NOISE_S = 1.5  # what a machine with other work may add to a promise in seconds


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    with provider_process(text=ANSWER, tokens_per_s=TOKENS_PER_S) as url:
        yield url


@pytest.fixture(scope="module")
def stack(provider_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    models = [
        {"name": name, "model": f"openai/{model}", "api_base": provider_url, "api_key": "x", "prefill": True}
        for name, model in (("slow", "test"), ("quick", f"test?text={SHORT_ANSWER}&tokens_per_s=0"))
    ]
    env = {"RAGLINE_MODELS": json.dumps(models)}
    with running(tmp_path_factory.mktemp("outages"), "--edges", "2", "--workers", "2", env=env) as started:
        yield started


@pytest.fixture
async def database(stack: DevStack) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(stack.report()["postgres_dsn"])
    yield connection
    await connection.close()


@pytest.fixture
async def clients(stack: DevStack, tmp_path: Path) -> AsyncIterator[Clients]:
    talking = Clients(urls(stack), stack.report()["api_key"], tmp_path)
    talking.start()
    await talking.answers(2)
    yield talking
    await talking.abandon()


async def settled(stack: DevStack) -> None:
    """Holds after: no work is open, and the outbox is empty."""
    dsn, deadline = stack.report()["postgres_dsn"], time.monotonic() + 30.0
    while any((left := await open_work(dsn)).values()):
        assert time.monotonic() < deadline, f"{left}\n{stack.log()}"
        await asyncio.sleep(0.1)


async def counted_once(stack: DevStack) -> None:
    """Of all that has happened so far: usage stands once for each attempt, and nothing is a dead letter."""
    report = stack.report()
    evidence = await gather(report["kafka_bootstrap"], report["postgres_dsn"])
    faults = list(evidence.counted_twice)
    for id_, row in evidence.completions.items():
        faults += [f"{id_}: {fault}" for fault in usage_faults(row, evidence.streams[id_], evidence, id_)]
    assert (faults, evidence.n_dead_letters) == ([], 0)


async def test_a_rolling_restart_is_seen_by_nobody(stack: DevStack, clients: Clients) -> None:
    took, said = {}, len(stack.output.read_text())
    for role in ("worker", "edge", "relay"):
        for pid in pids(stack, role):
            took[f"{role} {pid}"] = await replaced(stack, role, pid, signal.SIGTERM)
    lived = await clients.stop()
    print(lived, {name: f"{seconds:.1f} s" for name, seconds in took.items()})
    assert (lived.n_answers >= len(took), lived.n_uploads >= 2, lived.n_moves >= 1) == (True, True, True)
    output = stack.output.read_text()[said:]
    assert output.count("ended with code 0; starting it again") == len(took) == 5, output
    await settled(stack)
    await counted_once(stack)


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_postgresql_posts_are_as_quick_and_streams_go_on(stack: DevStack, how: How) -> None:
    async with watching(stack) as watchers:
        session_id = await watchers.new_session()
        post = partial(_post_next, watchers, session_id)
        usual = [await post(n) for n in range(20)]
        await watchers.watch(4, tokens_per_s=10 if how == "frozen" else 40)
        held = [len(watched.reading.text) for watched in watchers.watched]
        meanwhile: list[Posted] = []
        async with outage(stack, "postgres", how):
            until_s = time.monotonic() + (FROZEN_S if how == "frozen" else 1.0)
            while time.monotonic() < until_s:
                meanwhile.append(await post(len(usual) + len(meanwhile)))
                await asyncio.sleep(0.15 if how == "frozen" else 0.02)
            if how == "frozen":
                grown = [len(w.reading.text) - n for w, n in zip(watchers.watched, held, strict=True)]
                assert min(grown) > 100, f"the streams stood still: {grown}"
        assert {posted.status for posted in (*usual, *meanwhile)} == {202}
        usual_s, took_s = (median(posted.took_s for posted in posts) for posts in (usual, meanwhile))
        print(f"usual {usual_s * 1000:.1f} ms; PostgreSQL {how}: {took_s * 1000:.1f} ms, {len(meanwhile)} posts")
        assert took_s < usual_s + OVER_THE_USUAL_S + 3 * usual_s
        await _answered(watchers, session_id, len(usual) + len(meanwhile))
        await watchers.end()
        assert [w.reading.gaps for w in watchers.watched] == [[], [], [], []], "who wrote them wrote them to their end"
    await settled(stack)


async def _post_next(watchers: Watchers, session_id: str, number: int) -> Posted:
    return await watchers.post(session_id, f"Post {number}", edge=number % 2)


async def _answered(watchers: Watchers, session_id: str, n: int) -> None:
    """Returns when all posts stand in their order, each with its answer."""
    said = [turn for k in range(n) for turn in (("user", f"Post {k}"), ("ai", SHORT_ANSWER))]
    wanted = [(sender, "complete", text) for sender, text in said][:200]
    deadline = time.monotonic() + 60.0
    while (found := await watchers.messages(session_id)) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_kafka_posts_are_refused_in_time_and_readers_go_on(stack: DevStack, how: How) -> None:
    async with watching(stack) as watchers:
        session_id = await watchers.new_session()
        await watchers.watch(4, tokens_per_s=30)
        held = [watched.reading.text for watched in watchers.watched]
        async with outage(stack, "kafka", how):
            refused = await asyncio.gather(*(watchers.post(session_id, "now", edge=edge) for edge in (0, 1)))
        print(f"Kafka {how}: refused after {', '.join(f'{posted.took_s:.2f} s' for posted in refused)}")
        for posted in refused:
            assert (posted.status, posted.retry_after) == (503, "1"), posted
            assert posted.took_s < REFUSED_WITHIN_S + NOISE_S
        assert all(w.reading.text.startswith(text) for w, text in zip(watchers.watched, held, strict=True))
        for edge in (0, 1):
            deadline = time.monotonic() + 30.0
            while (await watchers.post(session_id, "again", edge=edge)).status != 202:
                assert time.monotonic() < deadline, stack.log()
    await settled(stack)


async def test_a_frozen_worker_is_replaced_and_what_it_writes_late_changes_nothing(
    stack: DevStack, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with watching(stack) as watchers:
        await watchers.watch(4, tokens_per_s=20)
        owners = {w.completion_id: await _owner(database, w) for w in watchers.watched}
        name = owners[watchers.watched[0].completion_id]
        pid = await worker_of_slot(stack, database, name)
        struck = [watched for watched in watchers.watched if owners[watched.completion_id] == name]
        frozen = await freeze_between_transactions(pid, database)
        try:
            await until(lambda: all(w.reading.is_over() for w in struck), within_s=60.0, why=stack.log)
            stored = await _stored(database, struck)
        finally:
            thaw(frozen)
        await _has_given_up(stack, struck)
    gaps = [gap.length_s for watched in struck for gap in watched.reading.gaps]
    print(f"{len(struck)} answers of {name} were taken over after {', '.join(f'{gap:.2f} s' for gap in gaps)}")
    assert len(gaps) == len(struck)
    assert max(gaps) < TAKEN_OVER_WITHIN_S + NOISE_S
    assert await _stored(database, struck) == stored
    async with watching(stack) as late:
        for watched in struck:
            again = Watched(watched.completion_id, watched.stream_url)
            await late.read(again, edge=1)
            assert (again.reading.text, again.reading.last_id) == (ANSWER, watched.reading.last_id)
    await settled(stack)
    await counted_once(stack)


async def _owner(database: asyncpg.Connection[asyncpg.Record], watched: Watched) -> str:
    return str(await database.fetchval("SELECT lease_owner FROM completions WHERE id = $1", watched.completion_id))


async def _stored(
    database: asyncpg.Connection[asyncpg.Record], struck: list[Watched]
) -> list[tuple[asyncpg.Record, ...]]:
    ids = [watched.completion_id for watched in struck]
    completions = await database.fetch("SELECT * FROM completions WHERE id = ANY($1::uuid[]) ORDER BY id", ids)
    messages = await database.fetch("SELECT * FROM messages WHERE completion_id = ANY($1::uuid[]) ORDER BY id", ids)
    return [*map(tuple, completions), *map(tuple, messages)]


async def _has_given_up(stack: DevStack, struck: list[Watched]) -> None:
    """Returns when each frozen attempt has written what counts for nobody, or has been told that it is over."""
    bootstrap, deadline = stack.report()["kafka_bootstrap"], time.monotonic() + 30.0
    for watched in struck:
        lost = f"completion {watched.completion_id}: attempt 1 lost its lease"
        while True:
            told = "\n".join(await told_of(bootstrap, watched.completion_id))
            if "does not count" in told or any(lost in log.read_text() for log in _worker_logs(stack)):
                break
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.1)


def _worker_logs(stack: DevStack) -> list[Path]:
    return list((stack.home / "logs").glob("worker-*.log"))


async def test_clients_of_a_killed_edge_go_on_at_the_other(stack: DevStack, clients: Clients) -> None:
    pid = pids(stack, "edge")[0]
    await clients.post_at_once(60, 0, partial(os.kill, pid, signal.SIGKILL))
    lived = await clients.stop()
    print(lived)
    assert lived.n_moves >= 2, "who talked to that edge talks to the other"
    await settled(stack)
    await until(lambda: is_back(stack, "edge", pid), within_s=60.0, why=stack.log)
