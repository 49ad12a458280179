"""Brings the broker's topics to what the registry says; never changes a partition count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.errors import Retry, Stop
from schemas.topics import BROKERS_CLOCK, DEAD_LETTER_RETENTION_MS, MAX_RECORD_BYTES, TOPICS


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """One topic as it should stand on the broker, dead-letter topics included."""

    name: str
    partitions: int
    settings: dict[str, str]


@dataclass(frozen=True, slots=True)
class TopicDiff:
    """`missing` can be created, `settings` can be altered, `conflicts` need a person."""

    missing: list[WantedTopic] = field(default_factory=list)
    settings: dict[str, dict[str, tuple[str | None, str]]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the broker agrees with the registry."""
        return not (self.missing or self.settings or self.conflicts)


def wanted_topics() -> list[WantedTopic]:
    """The registry's topics, each followed by its dead-letter topic."""
    wanted = []
    for topic in TOPICS:
        wanted.append(WantedTopic(topic.name, topic.partitions, topic.settings()))
        if topic.has_dead_letters:
            config = {
                "cleanup.policy": "delete",
                "retention.ms": str(DEAD_LETTER_RETENTION_MS),
                "max.message.bytes": str(2 * MAX_RECORD_BYTES),
                **BROKERS_CLOCK,
            }
            wanted.append(WantedTopic(topic.dead_letter_topic, topic.partitions, config))
    return wanted


@asynccontextmanager
async def open_admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises: Retry for what the broker refuses or does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as error:
        raise Retry(f"Kafka at {bootstrap}: {error}") from error
    finally:
        await admin.close()


async def diff_topics(bootstrap: str) -> TopicDiff:
    """What differs between registry and broker. Raises: Retry if no broker answers."""
    async with open_admin(bootstrap) as admin:
        return await _diff(admin)


async def apply_topics(bootstrap: str, *, replication: int = 1) -> TopicDiff:
    """Creates missing topics and alters settings; what was done. Raises: Stop on a conflict; Retry."""
    async with open_admin(bootstrap) as admin:
        diff = await _diff(admin)
        if diff.conflicts:
            raise Stop("; ".join(diff.conflicts))
        if diff.missing:
            new = [NewTopic(t.name, t.partitions, replication, topic_configs=t.settings) for t in diff.missing]
            try:
                answer = await admin.create_topics(new)
            except TopicAlreadyExistsError:
                answer = None
            for name, code, *_ in answer.topic_errors if answer else ():
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise Stop(f"topic {name}: {for_code(code).__name__}")
        if diff.settings:
            by_name = {topic.name: topic for topic in wanted_topics()}
            await admin.alter_configs(
                [
                    ConfigResource(ConfigResourceType.TOPIC, name, configs=by_name[name].settings)
                    for name in diff.settings
                ]
            )
        await _until_led(admin, [topic.name for topic in wanted_topics()])
        return diff


async def _diff(admin: AIOKafkaAdminClient) -> TopicDiff:
    wanted = wanted_topics()
    existing = set(await admin.list_topics())
    diff = TopicDiff(missing=[topic for topic in wanted if topic.name not in existing])
    present = [topic for topic in wanted if topic.name in existing]
    if not present:
        return diff
    described = {d["topic"]: d for d in await admin.describe_topics([topic.name for topic in present])}
    settings = await topic_settings(admin, [topic.name for topic in present])
    for topic in present:
        n_partitions = len(described[topic.name]["partitions"])
        if n_partitions != topic.partitions:
            diff.conflicts.append(
                f"topic {topic.name} has {n_partitions} partitions, the registry says {topic.partitions}: "
                "partition counts never change; create a new topic"
            )
        changed = {
            name: (settings[topic.name].get(name), value)
            for name, value in topic.settings.items()
            if settings[topic.name].get(name) != value
        }
        if changed:
            diff.settings[topic.name] = changed
    return diff


async def topic_settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """The configuration of each topic, the broker's defaults included."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for _code, _message, _kind, name, entries in answer.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def _until_led(admin: AIOKafkaAdminClient, names: list[str], *, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            described = await admin.describe_topics(names)
            partitions = [p for d in described for p in d["partitions"]]
            if all(d["error_code"] == 0 for d in described) and all(p["leader"] >= 0 for p in partitions):
                return
            await asyncio.sleep(0.05)
