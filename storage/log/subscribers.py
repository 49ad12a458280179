"""The one factory of group subscribers: FastStream declares and runs them, our batch runner polls."""

from __future__ import annotations

import logging
from collections.abc import Callable

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from storage.log.batch_runner import BatchRunner, Subscription
from storage.log.dead_letters import DeadLetters
from storage.log.producer import LogProducer
from storage.log.publisher import OutboxPublisher
from storage.postgres.unit_of_work import Database

logger = logging.getLogger(__name__)


class Subscribers:
    """Every group subscriber of one process: static members named after its slot, or dynamic ones without a slot."""

    def __init__(
        self,
        bootstrap: str,
        *,
        slot_name: str | None,
        database: Database,
        producer: LogProducer,
        publisher: OutboxPublisher,
        max_records: int = 500,
        session_timeout_ms: int = 6000,
    ) -> None:
        self._slot_name = slot_name
        self._database = database
        self._producer = producer
        self._publisher = publisher
        self._max_records = max_records
        self._session_timeout_ms = session_timeout_ms
        self._broker = KafkaBroker(bootstrap, client_id=f"ragline-{slot_name or 'group'}", logger=logger)
        self._app = FastStream(self._broker, logger=logger)
        self.runners: dict[str, BatchRunner] = {}

    def consume(self, subscription: Subscription, on_fail: Callable[[BaseException], None]) -> None:
        """Declares one subscriber; it runs from `start` to `stop`."""
        runner = BatchRunner(
            subscription,
            database=self._database,
            publisher=self._publisher,
            dead_letters=DeadLetters(
                self._producer, subscription.topic, step=subscription.group, share=subscription.dead_share
            ),
            max_records=self._max_records,
        )
        subscriber = self._broker.subscriber(
            subscription.topic.name,
            group_id=subscription.group,
            group_instance_id=f"{subscription.group}-{self._slot_name}" if self._slot_name is not None else None,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=500,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 6,
            check_crcs=False,
            listener=runner,
        )
        self.runners[subscription.group] = runner

        async def run() -> None:
            runner.start(subscriber.consumer, on_fail)

        self._app.after_startup(run)
        self._app.on_shutdown(runner.stop)

    async def start(self) -> None:
        """Joins every group and begins to poll."""
        await self._app.start()

    async def stop(self) -> None:
        """Finishes what is held, commits, leaves."""
        await self._app.stop()
