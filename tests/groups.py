"""Consumer groups of a test's own."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.ids import new_id
from schemas.topics import Topic


async def group_at_end(bootstrap: str, topic: Topic) -> str:
    """A new group that begins behind what other tests have sent."""
    name = f"test-{new_id()}"
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=name, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()
    return name
