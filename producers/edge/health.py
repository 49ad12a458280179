"""Whether this edge can really publish, consume and read: asked of the broker and PostgreSQL every two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from producers.edge.identity_tail import IdentityTail
from producers.edge.problems import Unavailable
from producers.edge.reads.bounded import Reads
from producers.edge.responses import json_response
from producers.edge.sse import OpenStreams
from schemas.errors import Retry
from schemas.http import Health, Readiness
from storage.log.producer import LogProducer
from storage.log.tail import Tail, TopicPartition
from storage.postgres.unit_of_work import UnitOfWork
from telemetry.metrics import SERVICE_HEALTH, exposition

EVERY_S = 2.0
ANSWER_WITHIN_S = 1.5
FRESH_FOR_S = 3 * EVERY_S
OK = "ok"


class HealthProbe:
    """Keeps asking. `checks` says for each part `ok` or what is missing."""

    def __init__(
        self,
        *,
        producer: LogProducer,
        identity: IdentityTail,
        tails: Mapping[str, Tail],
        reads: Reads,
    ) -> None:
        self._producer = producer
        self._identity = identity
        self._tails = tails
        self._reads = reads
        self._found: dict[str, str] = {}
        self._asked_at = float("-inf")
        self._ends: dict[TopicPartition, int] = {}
        self._newest_ends: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask."""
        self._task = asyncio.create_task(self._ask_forever(), name="health")

    async def stop(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def checks(self) -> dict[str, str]:
        """The newest answers, by part."""
        if time.monotonic() - self._asked_at > FRESH_FOR_S:
            return {**self._found, "probe": "no answer for too long"}
        return dict(self._found)

    @property
    def is_ready(self) -> bool:
        """Whether everything answers."""
        return all(found == OK for found in self.checks.values())

    async def _ask_forever(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(EVERY_S)

    async def ask(self) -> None:
        """One round, at most `ANSWER_WITHIN_S` long."""
        broker, postgres = await asyncio.gather(self._ask_broker(), self._ask_postgres())
        self._found = {
            "publish": "the producer is dead" if self._producer.is_dead else broker,
            "identity": OK if self._identity.is_at_end and _runs(self._identity.tail) else "not read to its end",
            **{name: self._consumes(tail, broker) for name, tail in self._tails.items()},
            "postgres": postgres,
        }
        self._asked_at = time.monotonic()
        for service, found in self._found.items():
            SERVICE_HEALTH.labels(service).set(found == OK)

    def _consumes(self, tail: Tail, broker: str) -> str:
        """A tail must have passed what stood in its topics a round ago."""
        if not _runs(tail):
            return "the tail has ended"
        if broker != OK:
            return broker
        behind = [tp for tp, offset in tail.positions.items() if offset < self._ends.get(tp, 0)]
        return f"{len(behind)} partitions do not advance" if behind else OK

    async def _ask_broker(self) -> str:
        try:
            ends = await asyncio.gather(*(tail.end_offsets(timeout_s=ANSWER_WITHIN_S) for tail in self._tails.values()))
        except Retry:
            return "Kafka does not answer"
        self._ends, self._newest_ends = self._newest_ends, {tp: end for found in ends for tp, end in found.items()}
        return OK

    async def _ask_postgres(self) -> str:
        try:
            await self._reads(None, _select_one, timeout_s=ANSWER_WITHIN_S)
        except Unavailable:
            return "PostgreSQL does not answer"
        return OK


class HealthRoutes:
    """`/health`, `/health/live`, `/health/ready` and `/metrics`; no key is needed."""

    def __init__(self, probe: HealthProbe, streams: OpenStreams, *, version: str) -> None:
        self._probe = probe
        self._streams = streams
        self._version = version

    def add_to(self, router: APIRouter) -> None:
        """Declares the routes."""
        add = router.add_api_route
        add("/health", self.health, methods=["GET"], response_model=Health)
        add("/health/live", self.live, methods=["GET"])
        add("/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse)
        add(
            "/health/ready",
            self.ready,
            methods=["GET"],
            response_model=Readiness,
            responses={503: {"model": Readiness}},
        )

    async def health(self) -> Response:
        """A summary."""
        status = "ready" if self._probe.is_ready else "unavailable"
        summary = Health(status=status, version=self._version, checks=self._probe.checks, n_streams=len(self._streams))
        return json_response(summary)

    async def live(self) -> Response:
        """The process runs and its event loop answers."""
        return Response(b'{"status":"live"}', media_type="application/json")

    async def metrics(self) -> Response:
        """What Prometheus scrapes."""
        body, media_type = exposition()
        return Response(body, headers={"content-type": media_type})

    async def ready(self, writes_only: bool = False) -> Response:
        """200 if this edge can publish, consume and read, else 503.

        With `writes_only=true` PostgreSQL may be away: messages and uploads are accepted then, and applied later.
        """
        checks = self._probe.checks
        if writes_only:
            checks.pop("postgres", None)
        is_ready = bool(checks) and all(found == OK for found in checks.values())
        body = Readiness(status="ready" if is_ready else "unavailable", checks=checks)
        return json_response(body, 200 if is_ready else 503)


def _runs(tail: Tail) -> bool:
    try:
        return not tail.task.done()
    except RuntimeError:
        return False


async def _select_one(work: UnitOfWork) -> None:
    await work.fetchval("SELECT 1")
