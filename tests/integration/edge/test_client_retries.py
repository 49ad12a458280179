"""Clients that repeat on their own, by the rules of OpenAI's: 408, 409, 429 and 5xx twice, and without a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, ConflictError, InternalServerError

from producers.edge.app import EdgeLimits
from ragline.dev_stack.embedded import EmbeddedServers
from storage.blobs.local import LocalBlobStore
from storage.log.producer import LogProducer
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_messages import new_session
from tests.integration.edge.world import Person, RunningEdge, eventually, running_edge

pytestmark = pytest.mark.usefixtures("consumers")


@dataclass
class Watched:
    """OpenAI's own client, and each answer that it got: status and how often it had tried before."""

    client: AsyncOpenAI
    heard: list[tuple[int, str]] = field(default_factory=list)

    async def post(self, path: str, body: dict[str, str], key: str | None) -> httpx.Response:
        """As its resources post; repeated by its own rules."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.client.post(path, body=body, cast_to=httpx.Response, options={"headers": headers})


@asynccontextmanager
async def watched(edge: RunningEdge, who: Person, servers: EmbeddedServers) -> AsyncIterator[Watched]:
    """Kafka goes on after the first answer."""

    async def hear(response: httpx.Response) -> None:
        found.heard.append((response.status_code, response.request.headers["x-stainless-retry-count"]))
        servers.thaw("kafka")

    async with (
        httpx.AsyncClient(event_hooks={"response": [hear]}) as http,
        AsyncOpenAI(api_key=who.key, base_url=f"{edge.base_url}/api/v1", http_client=http) as client,
    ):
        found = Watched(client)
        yield found


@pytest.fixture
async def hasty(
    servers: EmbeddedServers, database: Database, producer: LogProducer, somebody: Person, tmp_path: Path
) -> AsyncIterator[RunningEdge]:
    """An edge that does not wait long for Kafka."""
    limits = EdgeLimits(publish_deadline_s=0.3)
    async with running_edge(servers.kafka_bootstrap, database, producer, LocalBlobStore(tmp_path), limits) as edge:
        yield edge


async def contents(client: httpx.AsyncClient, session_id: str) -> list[str]:
    items = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()["items"]
    return [item["content"] for item in items if item["sender"] == "user"]


@asynccontextmanager
async def in_an_outage(
    hasty: RunningEdge, servers: EmbeddedServers, somebody: Person
) -> AsyncIterator[tuple[Watched, str]]:
    """A client and the path at which it posts one message `q`; in the end that stands once, before all later ones."""
    async with hasty.client(somebody) as client, watched(hasty, somebody, servers) as openai:
        session_id = await new_session(client)
        servers.freeze("kafka")
        try:
            yield openai, f"/sessions/{session_id}/messages"
        finally:
            servers.thaw("kafka")

        async def landed() -> bool:
            return await contents(client, session_id) != []

        await eventually(landed)
        await client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": "after"})
        assert await contents(client, session_id) == ["q", "after"]


async def test_what_may_still_land_is_repeated_under_a_key(
    hasty: RunningEdge, servers: EmbeddedServers, somebody: Person
) -> None:
    async with in_an_outage(hasty, servers, somebody) as (openai, path):
        answer = await openai.post(path, {"content": "q"}, "k")
        assert (answer.status_code, answer.json()["message"]["status"]) == (202, "complete")
        assert openai.heard == [(503, "0"), (202, "1")]


async def test_what_may_still_land_is_not_repeated_without_a_key(
    hasty: RunningEdge, servers: EmbeddedServers, somebody: Person
) -> None:
    async with in_an_outage(hasty, servers, somebody) as (openai, path):
        with pytest.raises(InternalServerError, match="send an Idempotency-Key") as refused:
            await openai.post(path, {"content": "q"}, None)
        assert refused.value.response.headers["retry-after"] == "1"
        assert openai.heard == [(503, "0")]


async def test_a_conflict_is_told_once(hasty: RunningEdge, servers: EmbeddedServers, somebody: Person) -> None:
    async with hasty.client(somebody) as client, watched(hasty, somebody, servers) as openai:
        session_id = await new_session(client)
        path, body = f"/sessions/{session_id}/messages", {"content": "q", "if_busy": "reject"}
        first = await openai.post(path, body, "first")
        for key in ("second", None):
            with pytest.raises(ConflictError, match="session_busy"):
                await openai.post(path, body, key)
        assert [status for status, _ in openai.heard] == [202, 409, 409]
        joined = await openai.post(path, body, "first")
        assert joined.json() == first.json()
        with pytest.raises(APIStatusError, match="idempotency_key_reused"):
            await openai.post(path, {**body, "content": "r"}, "first")
        assert [status for status, _ in openai.heard[3:]] == [202, 422]
