"""The state of the Kafka cluster, as it says itself: brokers, what they speak, how each topic is kept."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import ApiVersionRequest

from storage.log.topic_admin import open_admin, topic_settings, wanted_topics

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
