"""The state of the Kafka cluster, as it says itself: brokers, what they speak, how each topic is kept, who lags."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.structs import OffsetAndMetadata

from schemas.errors import Retry
from schemas.topics import Topic
from storage.log.tail import read_now
from storage.log.topic_admin import open_admin, topic_settings, wanted_topics

COORDINATOR_TRIES = 50
_NO_COORDINATOR_YET = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
JOIN_GROUP, PRODUCE, FETCH = 11, 0, 1
"""Keys of APIs in Kafka's protocol."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A registered topic as it stands: its least replicated partition counts; `settings` has the broker's defaults."""

    partitions: int
    replication: int
    n_without_leader: int
    n_under_replicated: int
    n_below_minimum: int
    settings: dict[str, str]

    @property
    def min_insync(self) -> int:
        """So many replicas must have a record before it counts as acknowledged."""
        return int(self.settings.get("min.insync.replicas", "1"))


@dataclass(frozen=True, slots=True)
class ClusterState:
    """`brokers` as `host:port`; `api_versions`: the newest of each API; `settings` are those of one broker."""

    brokers: list[str]
    api_versions: dict[int, int]
    settings: dict[str, str]
    topics: dict[str, TopicState]


@dataclass(frozen=True, slots=True)
class Lag:
    """Records of a group's topic that it has not committed, and the broker's stamp (ms) of the oldest of them."""

    n_records: int
    oldest_ms: int | None


async def cluster_state(bootstrap: str) -> ClusterState:
    """What the cluster says. Raises: Retry if no broker answers."""
    async with open_admin(bootstrap) as admin:
        cluster = await admin.describe_cluster()
        brokers = cluster["brokers"]
        asked = brokers[0]["node_id"]
        spoken = await admin._client.send(asked, ApiVersionRequest())
        return ClusterState(
            brokers=[f"{broker['host']}:{broker['port']}" for broker in brokers],
            api_versions={key: newest for key, _, newest in spoken.api_versions},
            settings=await _broker_settings(admin, asked),
            topics=await _topics(admin),
        )


async def group_lags(bootstrap: str, groups: Mapping[str, Topic]) -> dict[str, Lag]:
    """How far each group is behind; what was never committed counts from the log's beginning. Raises: Retry."""
    async with open_admin(bootstrap) as admin:
        committed = {group: await _committed(admin, group) for group in groups}
    partitions = {group: [TopicPartition(t.name, n) for n in range(t.partitions)] for group, t in groups.items()}
    begins, ends = await _reach(bootstrap, [one for several in partitions.values() for one in several])
    lags = {}
    for group, its in partitions.items():
        done = {at: committed[group][at].offset if at in committed[group] else 0 for at in its}
        waiting = {at: (first, ends[at]) for at in its if (first := max(done[at], begins[at])) < ends[at]}
        n_records = sum(end - first for first, end in waiting.values())
        lags[group] = Lag(n_records, await _oldest_ms(bootstrap, waiting) if waiting else None)
    return lags


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """A broker that has just started has no coordinator at first: being asked for one, it makes it."""
    for _ in range(COORDINATOR_TRIES):
        try:
            return dict(await admin.list_consumer_group_offsets(group))
        except _NO_COORDINATOR_YET:
            await asyncio.sleep(0.1)
    return dict(await admin.list_consumer_group_offsets(group))


async def _oldest_ms(bootstrap: str, ranges: Mapping[TopicPartition, tuple[int, int]]) -> int | None:
    stamps: dict[TopicPartition, int] = {}
    async with aclosing(read_now(bootstrap, ranges)) as records:
        async for record in records:
            stamps.setdefault(TopicPartition(record.topic, record.partition), record.timestamp)
            if len(stamps) == len(ranges):
                break
    return min(stamps.values(), default=None)


async def _reach(
    bootstrap: str, partitions: list[TopicPartition]
) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    except (KafkaError, OSError) as error:
        raise Retry(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()


async def _broker_settings(admin: AIOKafkaAdminClient, broker: int) -> dict[str, str]:
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(broker))])
    return {entry[0]: entry[1] for *_, entries in answer.resources for entry in entries if entry[1] is not None}


async def _topics(admin: AIOKafkaAdminClient) -> dict[str, TopicState]:
    existing = set(await admin.list_topics())
    names = [topic.name for topic in wanted_topics() if topic.name in existing]
    if not names:
        return {}
    settings = await topic_settings(admin, names)
    described = {one["topic"]: one["partitions"] for one in await admin.describe_topics(names)}
    states = {}
    for name in names:
        partitions = described[name]
        minimum = int(settings[name].get("min.insync.replicas", "1"))
        states[name] = TopicState(
            partitions=len(partitions),
            replication=min(len(one["replicas"]) for one in partitions),
            n_without_leader=sum(one["leader"] < 0 for one in partitions),
            n_under_replicated=sum(len(one["isr"]) < len(one["replicas"]) for one in partitions),
            n_below_minimum=sum(len(one["isr"]) < minimum for one in partitions),
            settings=settings[name],
        )
    return states
