"""Dead letters: the record as it was, and why (design §5.7)."""

from __future__ import annotations

import time
from collections import deque

from aiokafka import ConsumerRecord

from schemas.envelope import Headers
from schemas.errors import DeadLetter, Stop
from schemas.topics import Topic
from storage.log.producer import LogProducer, all_acked
from telemetry.metrics import KAFKA_DEAD_LETTERS

MAX_DETAIL_CHARS = 500


def dead_letter_headers(record: ConsumerRecord, error: DeadLetter, *, step: str) -> Headers:
    """The record's own headers (null becomes empty) and `dlq_…`: reason, step, error, time, partition, offset.

    What is unreadable in a name is escaped: `\\udcff` is the byte FF.
    """
    kept = [(name.encode(errors="backslashreplace").decode(), raw or b"") for name, raw in record.headers]
    told = {
        "dlq_reason": error.reason,
        "dlq_step": step,
        "dlq_error": error.detail[:MAX_DETAIL_CHARS],
        "dlq_time_ms": str(int(time.time() * 1000)),
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
    }
    return kept + [(name, text.encode()) for name, text in told.items()]


def original_headers(record: ConsumerRecord) -> Headers:
    """A dead letter's headers as its record had them: with them it is the same record again, under the same id."""
    return [(name, raw or b"") for name, raw in record.headers if not name.startswith("dlq_")]


class DeadLetters:
    """The dead-letter topic of one consumer, with a share limit against a bad deploy.

    Raises Stop once more than `share` of the last `window` records, and at least `at_least`, were dead.
    """

    def __init__(
        self,
        producer: LogProducer,
        topic: Topic,
        *,
        step: str,
        share: float = 0.5,
        at_least: int = 100,
        window: int = 1000,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._step = step
        self._share = share
        self._at_least = at_least
        self._recent: deque[bool] = deque(maxlen=window)

    def passed(self, n_records: int) -> None:
        """Counts records that were processed."""
        self._recent.extend([False] * n_records)

    async def keep(self, record: ConsumerRecord, error: DeadLetter) -> None:
        """Returns when the broker has the dead letter. Raises: Retry; Stop at the share limit."""
        self._recent.append(True)
        n_dead = sum(self._recent)
        if n_dead > self._at_least and n_dead > self._share * len(self._recent):
            raise Stop(
                f"{self._step}: {n_dead} of the last {len(self._recent)} records of {self._topic.name} are dead letters"
                f" (last: {error.reason}); stopped, so that a bad deploy does not drain the topic"
            )
        headers = dead_letter_headers(record, error, step=self._step)
        future = await self._producer.send_raw(self._topic.dead_letter_topic, record.key, record.value, headers)
        await all_acked([future])
        KAFKA_DEAD_LETTERS.labels(self._topic.name, self._step, error.reason).inc()
