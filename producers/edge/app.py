"""Puts the edge together from its collaborators, and starts and stops what runs in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from fastapi import APIRouter

from producers.edge.asgi import Receive, Scope, Send
from producers.edge.auth import Authenticator, KeyRing
from producers.edge.caller import NEEDS_KEY
from producers.edge.completion_streams import CompletionStreams
from producers.edge.completions import CompletionRoutes
from producers.edge.dead_letters import DeadLetterRoutes
from producers.edge.docs_page import add_docs_page
from producers.edge.document_events import DocumentEvents
from producers.edge.document_versions import DocumentVersionRoutes
from producers.edge.documents import DocumentRoutes
from producers.edge.effects import Effects
from producers.edge.event_tail import EventTail
from producers.edge.feed import FeedRoutes
from producers.edge.gate import Api, Gate
from producers.edge.health import HealthProbe, HealthRoutes
from producers.edge.identity_tail import IdentityTail
from producers.edge.message_search import MessageSearchRoutes
from producers.edge.messages import MessageRoutes
from producers.edge.openapi import openapi_document
from producers.edge.reads.bounded import Reads
from producers.edge.requested import RequestedCompletions
from producers.edge.requests import JsonBodies
from producers.edge.search import Searching, SearchRoutes
from producers.edge.session_context import Preview, SessionContextRoutes
from producers.edge.sessions import SessionRoutes
from producers.edge.sse import MAX_STREAMS, OpenStreams
from producers.edge.stream_hub import StreamHub
from producers.edge.uploads import Uploads
from producers.replay.dead_letters import DeadLetterDesk
from storage.log.producer import LogProducer
from storage.ports import BlobStore
from storage.postgres.unit_of_work import Database

OnFatal = Callable[[BaseException], None]


class Routes(Protocol):
    """A group of routes."""

    def add_to(self, router: APIRouter) -> None:
        """Declares them."""
        ...


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """How long the edge waits, and how much it takes."""

    wait_s: float = 5.0
    publish_deadline_s: float = 1.8
    read_timeout_s: float = 5.0
    max_upload_bytes: int = 100 * 1024 * 1024
    max_json_bytes: int = 2 * 1024 * 1024
    ring_bytes: int = 32 * 1024 * 1024
    max_streams: int = MAX_STREAMS
    heartbeat_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """What runs behind the routes."""

    producer: LogProducer
    identity: IdentityTail
    events: EventTail
    hub: StreamHub
    streams: OpenStreams
    uploads: Uploads
    probe: HealthProbe


class Edge:
    """An ASGI application and what runs behind it. `start` before the first request, `stop` after the last."""

    def __init__(self, gate: Gate, running: Running, on_fatal: OnFatal) -> None:
        self._gate = gate
        self._running = running
        self._on_fatal = on_fatal
        self._stack = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        await self._gate(scope, receive, send)

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Holds after: every key is known, events and chunks are followed. Raises: Retry, with nothing left running."""
        running = self._running
        tails = (running.identity.tail, running.events.tail, running.hub.tail)
        async with AsyncExitStack() as stack:
            for stop in (tails[0].stop, tails[1].stop, running.hub.stop):
                stack.push_async_callback(stop)
            starting = (running.identity.start(timeout_s=timeout_s), tails[1].start(), running.hub.start())
            for outcome in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            self._stack = stack.pop_all()
        watching = asyncio.create_task(running.producer.watch(), name="producer")
        self._stack.callback(watching.cancel)
        for task in (watching, *(tail.task for tail in tails)):
            task.add_done_callback(self._ended)
        running.streams.start()
        await running.probe.ask()
        running.probe.start()
        for stop in (running.streams.stop, running.probe.stop, running.uploads.stop):
            self._stack.push_async_callback(stop)

    def stop_streams(self) -> None:
        """Every open event stream ends with an `error` event, and who waits for an effect is answered without it.

        Call it as soon as the process is told to end: then no request is cut off.
        """
        self._running.streams.stop_streams()
        self._running.events.stop_waits()

    async def stop(self) -> None:
        """Holds after: nothing runs any more."""
        self.stop_streams()
        await self._stack.aclose()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)


def build_app(
    *,
    bootstrap: str,
    database: Database,
    producer: LogProducer,
    blobs: BlobStore,
    searcher: Searching,
    preview: Preview,
    model_names: Collection[str],
    on_fatal: OnFatal,
    limits: EdgeLimits = EdgeLimits(),  # noqa: B008 - frozen
    version: str = "0",
    wall_s: Callable[[], float] = time.time,
) -> Edge:
    """The edge over its collaborators; it starts its own tails and stops nothing that was given to it.

    `producer` is connected by the caller. `on_fatal` hears of what only a new process can mend.
    """
    ring, reads = KeyRing(), Reads(database, timeout_s=limits.read_timeout_s)
    identity = IdentityTail(bootstrap, ring, client_id="ragline-edge-identity")
    events = EventTail(bootstrap, client_id="ragline-edge-events")
    effects = Effects(producer, events, publish_deadline_s=limits.publish_deadline_s)
    streams = OpenStreams(max_streams=limits.max_streams, heartbeat_s=limits.heartbeat_s)
    hub = _hub(bootstrap, reads, events, limits, wall_s)
    tails = {"events": events.tail, "chunks": hub.tail}
    probe = HealthProbe(producer=producer, identity=identity, tails=tails, reads=reads)
    uploads = Uploads(effects, reads, blobs, wait_s=limits.wait_s, max_upload_bytes=limits.max_upload_bytes)
    readers, json, wait_s = CompletionStreams(hub, effects, streams), JsonBodies(limits.max_json_bytes), limits.wait_s
    messages = MessageRoutes(effects, reads, readers, wait_s=wait_s, json=json, model_names=model_names)
    native: list[Routes] = [
        SessionRoutes(effects, reads, wait_s=wait_s, json=json),
        MessageSearchRoutes(reads),
        messages,
        CompletionRoutes(effects, events, reads, wait_s=wait_s),
        DocumentRoutes(effects, reads, blobs, uploads, DocumentEvents(events, reads, streams), wait_s=wait_s),
        DocumentVersionRoutes(effects, reads, uploads, wait_s=wait_s),
        SearchRoutes(searcher, timeout_s=limits.read_timeout_s, json=json),
        SessionContextRoutes(reads, preview),
        FeedRoutes(events, reads, streams),
        DeadLetterRoutes(DeadLetterDesk(bootstrap, database, producer), json=json),
    ]
    api = _api(native, [HealthRoutes(probe, streams, version=version)], version)
    gate = Gate(api, Authenticator(ring, reads), messages, readers, on_fatal=on_fatal)
    return Edge(gate, Running(producer, identity, events, hub, streams, uploads, probe), on_fatal)


def _hub(bootstrap: str, reads: Reads, events: EventTail, limits: EdgeLimits, wall_s: Callable[[], float]) -> StreamHub:
    return StreamHub(
        bootstrap,
        reads,
        RequestedCompletions(events),
        client_id="ragline-edge-chunks",
        ring_bytes=limits.ring_bytes,
        wall_s=wall_s,
    )


def _api(native: Sequence[Routes], open_to_all: Sequence[Routes], version: str) -> Api:
    """All routes; those of the native API need a key."""
    api = Api(
        title="Ragline",
        version=version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for group, router in (
        (native, APIRouter(prefix="/api/v1", dependencies=NEEDS_KEY)),
        (open_to_all, APIRouter()),
    ):
        for routes in group:
            routes.add_to(router)
        api.include_router(router)
    add_docs_page(api)
    api.openapi = lambda: openapi_document(api)  # type: ignore[method-assign]
    return api


_DESCRIPTION = """Chats over your own documents. Commands are answered as soon as their effect is known, at most after
5 seconds (`Prefer: wait=N`, `Prefer: respond-async`); answers stream as server-sent events. Errors are
`application/problem+json`. What happens is told as events too, on Kafka: `/asyncapi`."""
