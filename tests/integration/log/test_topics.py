"""The broker's topics follow the registry, and partition counts never change."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.errors import Retry, Stop
from schemas.topics import CHAT_EVENTS, USAGE_EVENTS
from storage.log.topic_admin import apply_topics, diff_topics


async def test_settings_are_brought_back_and_a_foreign_partition_count_is_refused(servers: EmbeddedServers) -> None:
    bootstrap = servers.kafka_bootstrap
    assert (await diff_topics(bootstrap)).is_empty
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        changed = {**CHAT_EVENTS.settings(), "retention.ms": "1000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, CHAT_EVENTS.name, configs=changed)])
        diff = await diff_topics(bootstrap)
        assert list(diff.settings) == [CHAT_EVENTS.name]
        assert diff.settings[CHAT_EVENTS.name]["retention.ms"][0] == "1000"
        await apply_topics(bootstrap)
        assert (await diff_topics(bootstrap)).is_empty
        dead = USAGE_EVENTS.dead_letter_topic
        await admin.create_partitions({dead: NewPartitions(total_count=USAGE_EVENTS.partitions + 1)})
        assert "never change" in (await diff_topics(bootstrap)).conflicts[0]
        with pytest.raises(Stop, match=dead):
            await apply_topics(bootstrap)
        await admin.delete_topics([dead])
        assert [topic.name for topic in (await diff_topics(bootstrap)).missing] == [dead]
        await apply_topics(bootstrap)
    finally:
        await admin.close()


async def test_a_broker_that_is_away_is_a_retry() -> None:
    with pytest.raises(Retry):
        await diff_topics("127.0.0.1:1")
