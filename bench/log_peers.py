"""Kafka without Ragline: `python -m bench.log_peers '{"what": "ack" | "send" | "tail", …}'`."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.children import answer, asked
from bench.stamping_provider import STAMP, now_us
from schemas.chunks import CompletionChunk
from schemas.envelope import Envelope
from schemas.ids import new_id
from schemas.topics import CHAT_CHUNKS

TOPIC = "bench.hop"


async def make_topic(bootstrap: str) -> None:
    """The benchmark's own topic, with as many partitions as the chunks have."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if TOPIC not in await admin.list_topics():
            await admin.create_topics([NewTopic(TOPIC, CHAT_CHUNKS.partitions, 1)])
            await asyncio.sleep(1)
    finally:
        await admin.close()


async def _producer(bootstrap: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await producer.start()
    return producer


def chunk_like(text: str) -> Envelope:
    """A record of the size that one of our chunks has."""
    body = CompletionChunk(completion_id=new_id(), attempt=1, epoch=0, seq=100, start=1000, end=1017, text=text)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    return Envelope(body=body, tenant_id=new_id(), user_id=new_id(), source="completions", traceparent=trace)


async def acks(question: dict[str, Any]) -> dict[str, object]:
    """One acked publish after the other: `send_and_wait`, acks=all; milliseconds."""
    await make_topic(question["bootstrap"])
    producer = await _producer(question["bootstrap"])
    record = chunk_like("x" * 200)
    value, headers = record.body.encode(), record.headers()
    found = []
    try:
        for n in range(question["n"] + 50):
            began = time.perf_counter()
            await producer.send_and_wait(TOPIC, value, key=str(new_id()).encode(), headers=headers)
            if n >= 50:
                found.append((time.perf_counter() - began) * 1000)
    finally:
        await producer.stop()
    return {"ms": found}


async def send(question: dict[str, Any]) -> dict[str, object]:
    """`streams` keys with `rate` records a second each, for `seconds`: what chunks are, without all that makes them."""
    producer = await _producer(question["bootstrap"])
    loop = asyncio.get_running_loop()
    records = [chunk_like("@%015d ") for _ in range(question["streams"])]
    keys = [str(new_id()).encode() for _ in records]
    headers = [record.headers() for record in records]
    values = [record.body.encode() for record in records]
    order = sorted((random.random() / question["rate"], stream) for stream in range(len(records)))
    begin = loop.time()
    try:
        for round_ in range(int(question["seconds"] * question["rate"])):
            for offset, stream in order:
                wait_s = begin + round_ / question["rate"] + offset - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                stamp = b"%015d" % now_us()
                value = values[stream].replace(b"%015d", stamp)
                await producer.send(TOPIC, value, key=keys[stream], headers=headers[stream])
    finally:
        await producer.stop()
    return {}


async def tail(question: dict[str, Any]) -> dict[str, object]:
    """Follows the topic from its end for `seconds`; milliseconds from a record's stamp to its arrival."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=question["bootstrap"], group_id=None, enable_auto_commit=False, fetch_max_wait_ms=100
    )
    await consumer.start()
    found: list[float] = []
    try:
        partitions = [TopicPartition(TOPIC, number) for number in range(CHAT_CHUNKS.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        until = time.monotonic() + question["seconds"]
        while time.monotonic() < until:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                now = now_us()
                for record in records:
                    match = STAMP.search(record.value)
                    if match:
                        found.append((now - int(match[1])) / 1000)
    finally:
        await consumer.stop()
    return {"ms": found}


if __name__ == "__main__":
    QUESTION = asked()
    WHAT = {"ack": acks, "send": send, "tail": tail}[QUESTION["what"]]
    answer(QUESTION, uvloop.run(WHAT(QUESTION)))
