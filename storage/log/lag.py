"""How far groups are behind, asked of the broker: it answers for groups without a living member, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from schemas.errors import Retry
from schemas.topics import Topic

_NO_COORDINATOR_YET = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
_POLLS = 8
_FIRST_RECORD_BYTES = 1024
"""The broker sends at least one batch of a partition, however large (KIP-74), and not many more."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Records that a group has not committed, and when the broker got the oldest (Unix time); None without any."""

    group: str
    topic: str
    n_records: int
    oldest_s: float | None


class LagReader:
    """Connections to ask with. `start` before, `stop` after."""

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id=client_id, request_timeout_ms=5_000)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=_FIRST_RECORD_BYTES,
            check_crcs=False,
        )

    async def start(self) -> None:
        """Connects. Raises: Retry."""
        try:
            await self._admin.start()
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self.stop()
            raise Retry(f"Kafka at {self._bootstrap}: {error}") from error

    async def stop(self) -> None:
        """Gives the connections up."""
        await self._admin.close()
        await self._consumer.stop()

    async def read(self, groups: Sequence[tuple[str, Topic]], *, timeout_s: float = 10.0) -> list[Lag]:
        """Where every group stands now. Raises: Retry."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(groups)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Retry(f"Kafka: {error!r}") from error

    async def _read(self, groups: Sequence[tuple[str, Topic]]) -> list[Lag]:
        partitions = {TopicPartition(topic.name, n) for _, topic in groups for n in range(topic.partitions)}
        ends = await self._consumer.end_offsets(list(partitions))
        begins = await self._consumer.beginning_offsets(list(partitions))
        behind: dict[str, dict[TopicPartition, int]] = {}
        for group, topic in groups:
            committed = await self._committed(group)
            behind[group] = {
                partition: at
                for partition in partitions
                if partition.topic == topic.name
                and (at := max(_offset(committed.get(partition)), begins[partition])) < ends[partition]
            }
        times = await self._times({(tp, at) for found in behind.values() for tp, at in found.items()})
        return [
            Lag(
                group,
                topic.name,
                sum(ends[partition] - at for partition, at in behind[group].items()),
                min((times[found] for found in behind[group].items() if found in times), default=None),
            )
            for group, topic in groups
        ]

    async def _committed(self, group: str) -> Mapping[TopicPartition, object]:
        """A broker that has just started has no coordinator yet: being asked for one, it makes it."""
        while True:
            try:
                return dict(await self._admin.list_consumer_group_offsets(group))
            except _NO_COORDINATOR_YET:
                await asyncio.sleep(0.1)

    async def _times(self, wanted: Iterable[tuple[TopicPartition, int]]) -> Mapping[tuple[TopicPartition, int], float]:
        """When the broker got the first record at or after each offset."""
        found: dict[tuple[TopicPartition, int], float] = {}
        rounds: list[dict[TopicPartition, int]] = []
        for partition, at in sorted(wanted):  # groups of one topic may stand at different offsets of a partition
            fitting = next((one for one in rounds if partition not in one), None)
            if fitting is None:
                rounds.append(fitting := {})
            fitting[partition] = at
        for asked in rounds:
            self._consumer.assign(list(asked))
            for partition, at in asked.items():
                self._consumer.seek(partition, at)
            for _ in range(_POLLS):
                polled = await self._consumer.getmany(*asked, timeout_ms=500, max_records=len(asked) * 4)
                for partition, records in polled.items():
                    found[partition, asked.pop(partition)] = records[0].timestamp / 1000
                if not asked:
                    break
        self._consumer.unsubscribe()
        return found


def _offset(committed: object) -> int:
    return int(getattr(committed, "offset", 0))
