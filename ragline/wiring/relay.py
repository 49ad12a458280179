"""The relay's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from consumers.relay.inspection import inspections
from consumers.relay.lags import watch_forever
from consumers.relay.retention import expire_forever
from consumers.relay.sweep import relay_forever
from ragline.settings import Settings
from ragline.status import Status, status_page
from ragline.wiring.blobs import build_blobs
from ragline.wiring.connections import OnFail, build_database, until_there
from ragline.wiring.health import watch_consumers, watch_servers
from ragline.wiring.telemetry import telling
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.log.subscribers import Subscribers


@asynccontextmanager
async def relaying(settings: Settings, on_fail: OnFail) -> AsyncIterator[None]:
    """The relay runs for as long as the block does."""
    page = status_page(settings.telemetry.metrics_port, settings.telemetry.metrics_host)
    async with telling(settings, "relay"), page as status, _relaying(settings, on_fail, status):
        status.started()
        yield


@asynccontextmanager
async def _relaying(settings: Settings, on_fail: OnFail, status: Status) -> AsyncIterator[None]:
    database = build_database(settings, max_connections=3)
    blobs = build_blobs(settings)
    producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-relay")
    watch_servers(status, database, producer)
    await until_there(producer.start)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_fail(error)

    expiring = expire_forever(database, blobs, cache_kept=timedelta(days=settings.embedding.cache_days))
    working = [relay_forever(database, producer), expiring, producer.watch()]
    if settings.telemetry.metrics_port:
        working.append(watch_forever(database, settings.kafka_bootstrap))
    tasks = [asyncio.create_task(one) for one in working]
    for task in tasks:
        task.add_done_callback(ended)
    subscribers = Subscribers(
        settings.kafka_bootstrap,
        slot_name=None,
        database=database,
        producer=producer,
        publisher=OutboxPublisher(database, producer),
    )
    for inspection in inspections():
        subscribers.consume(inspection, on_fail)
    await until_there(subscribers.start)
    watch_consumers(status, subscribers)
    try:
        yield
    finally:
        await subscribers.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        await blobs.close()
        await database.close()
