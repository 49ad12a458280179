"""Every metric of every process: its name, its labels, what it means, and what an operator does when it is bad.

Counted at the granularity of requests, batches, attempts and transactions, never of chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from telemetry.seconds import Seconds

Kind = Literal["counter", "gauge", "histogram"]

_QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as operators see it; `unit` is what a value counts."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    meaning: str
    remedy: str


REGISTRY = CollectorRegistry()
METRICS: dict[str, Described] = {}
"""By name, in the order of the reference page."""

disable_created_metrics()  # type: ignore[no-untyped-call]


def exposition() -> tuple[bytes, str]:
    """All metrics of this process in Prometheus' text format, and its media type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


def _counter(name: str, unit: str, meaning: str, remedy: str, labels: Sequence[str] = ()) -> Counter:
    METRICS[name] = Described(name, "counter", tuple(labels), unit, meaning, remedy)
    return Counter(name.removesuffix("_total"), meaning, labels, registry=REGISTRY)


def _gauge(name: str, unit: str, meaning: str, remedy: str, labels: Sequence[str] = ()) -> Gauge:
    METRICS[name] = Described(name, "gauge", tuple(labels), unit, meaning, remedy)
    return Gauge(name, meaning, labels, registry=REGISTRY)


def _seconds(
    name: str, meaning: str, remedy: str, labels: Sequence[str] = (), buckets: Sequence[float] = _QUICK_S
) -> Seconds:
    METRICS[name] = Described(name, "histogram", tuple(labels), "seconds", meaning, remedy)
    return Seconds(name, meaning, labels, buckets, REGISTRY)


HTTP_REQUEST_SECONDS = _seconds(
    "http_request_seconds",
    "Requests, by how long their answer took to begin; its `_count` counts them. `status` is a class, as `2xx`.",
    "See which route and status rise. 5xx: the checks of `/health/ready` name what is away; 429: a tenant's limit.",
    ("method", "route", "status"),
)
HTTP_REQUESTS_IN_FLIGHT = _gauge(
    "http_requests_in_flight",
    "requests",
    "Requests whose answer has not ended, open event streams among them.",
    "More than streams explain: the edge waits for Kafka or PostgreSQL; see `db_pool_wait_seconds`. Add edges.",
)

LLM_ATTEMPTS = _counter(
    "llm_attempts_total",
    "attempts",
    "Attempts at an answer that ended, by how: `complete`, `failed`, `cancelled`, `again`, `handed_over`, `lost`.",
    "Many `again` or `failed`: see `llm_failures_total`. `lost`: workers freeze or PostgreSQL is slow.",
    ("model", "end"),
)
LLM_FIRST_TOKEN_SECONDS = _seconds(
    "llm_first_token_seconds",
    "From the call of the provider to the first text.",
    "The provider is slow or its server is full: add a fallback model, or capacity to your own server.",
    ("model",),
    _LONG_S,
)
LLM_TOKENS = _counter(
    "llm_tokens_total",
    "tokens",
    "Tokens that ended attempts used, by `direction`: `input`, `output`.",
    "A sudden rise is a tenant or a loop of a client; `usage.events.v1` says whose.",
    ("model", "direction"),
)
LLM_COST_USD = _counter(
    "llm_cost_usd_total",
    "US dollars",
    "What those tokens cost, by the prices of the settings or of litellm's table.",
    "Near the budget: lower a tenant's limits, or make a cheaper model the default.",
    ("model",),
)
LLM_FAILURES = _counter(
    "llm_failures_total",
    "failures",
    "Provider calls that failed, by stable `code`.",
    "`auth`: the key; `rate_limited`, `overloaded`: a fallback model; `timeout`: the server or `timeout_s`.",
    ("model", "code"),
)
LLM_RUNNING = _gauge(
    "llm_running_answers",
    "answers",
    "Answers that this worker writes now.",
    "At `worker.completion_slots` for long: add workers.",
)
LLM_WAITING = _gauge(
    "llm_waiting_answers",
    "answers",
    "Answers that wait for a worker, as the relay counts them.",
    "Growing: no worker runs completions, all slots are taken, or the provider is slow.",
)

DB_TRANSACTION_SECONDS = _seconds(
    "db_transaction_seconds",
    "Transactions, from their first statement to commit or rollback, by `outcome`: `committed`, `failed`.",
    "Slow: look for locks and missing vacuum (`pg_stat_activity`, `pg_stat_user_tables`), then for slow disks.",
    ("outcome",),
)
DB_POOL_WAIT_SECONDS = _seconds(
    "db_pool_wait_seconds",
    "How long a transaction waited for a connection of the process's pool.",
    "Above 0.1 s for long: PostgreSQL is slow, or the process does more than its pool allows: add processes.",
)
DB_ERRORS = _counter(
    "db_errors_total",
    "transactions",
    "Transactions that PostgreSQL could not serve and that are repeated, by `kind` of error.",
    "Connection errors: PostgreSQL is away or full. Deadlocks now and then are harmless.",
    ("kind",),
)

KAFKA_RECORDS_CONSUMED = _counter(
    "kafka_records_consumed_total",
    "records",
    "Records that a group has processed.",
    "Flat while `kafka_consumer_lag` grows: the group stands still; see its process's log and `/health/ready`.",
    ("group", "topic"),
)
KAFKA_BATCH_SECONDS = _seconds(
    "kafka_batch_seconds",
    "One polled batch, from its first record's decoding to its commit.",
    "Slow: see `db_transaction_seconds`. With a growing lag, add workers (up to the topic's partitions).",
    ("group",),
)
KAFKA_BATCH_RETRIES = _counter(
    "kafka_batch_retries_total",
    "batches",
    "Batches that could not take effect and are read again after a pause.",
    "PostgreSQL or the blob store is away: `service_health` says which.",
    ("group",),
)
KAFKA_PUBLISH_SECONDS = _seconds(
    "kafka_publish_seconds",
    "From handing a command over to the broker's acknowledgement.",
    "Slow: the broker's disk or its replicas. At `edge.publish_deadline_s` the edge answers 503.",
)
KAFKA_PUBLISH_FAILURES = _counter(
    "kafka_publish_failures_total",
    "commands",
    "Commands that the broker did not acknowledge in time; their requests were answered with 503.",
    "Look at the brokers: under-replicated partitions, full disks, a network that is cut.",
)
KAFKA_DEAD_LETTERS = _counter(
    "kafka_dead_letters_total",
    "records",
    "Records that can never be processed and are kept apart.",
    "`ragline dlq list`, then mend the cause and `ragline dlq redrive`; docs/dead-letters.md.",
    ("topic", "step", "reason"),
)
KAFKA_CONSUMER_LAG = _gauge(
    "kafka_consumer_lag",
    "records",
    "Records that a group has not committed yet, as the relay counts them: also when no worker runs.",
    "Growing: see whether workers run and what `kafka_batch_retries_total` says; add workers.",
    ("group", "topic"),
)
KAFKA_OLDEST_UNPROCESSED_SECONDS = _gauge(
    "kafka_oldest_unprocessed_seconds",
    "seconds",
    "Age of the oldest record that a group has not committed; 0 without lag. Offsets are told twice a second.",
    "Older than a minute: a group stands still or cannot keep up; what users wait for is this old.",
    ("group", "topic"),
)
KAFKA_RELAYED = _counter(
    "kafka_relayed_total",
    "records",
    "Events that the relay published because the process that committed them had not.",
    "Some after a crash are right. A steady rate: a worker's producer does not reach the broker.",
)

STREAM_OPEN = _gauge(
    "stream_open",
    "streams",
    "Event streams that are open on this edge.",
    "Near `edge.max_streams`: add edges.",
)
STREAM_REFUSED = _counter(
    "stream_refused_total",
    "streams",
    "Streams that were answered with 503 because all seats of the edge were taken.",
    "Add edges, or raise `edge.max_streams` and the limit on open files.",
)
STREAM_RESETS = _counter(
    "stream_resets_total",
    "resets",
    "Resets that readers were sent: an answer was begun anew by a model that cannot continue a text.",
    "Follow take-overs and failures; `prefill` of a model that can continue spares them.",
)
STREAM_TAKE_OVERS = _counter(
    "stream_take_overs_total",
    "answers",
    "Answers that were taken over because their holder's lease ran out.",
    "Workers die or freeze: look for kills by memory, CPU throttling, and PostgreSQL outages.",
)

INGEST_DOCUMENTS = _counter(
    "ingest_documents_total",
    "versions",
    "Versions of documents that ended, by `end`: `indexed`, `failed`.",
    "Many `failed`: `GET /api/v1/documents` names the error of each; often one kind of file.",
    ("end",),
)
INGEST_STEP_SECONDS = _seconds(
    "ingest_step_seconds",
    "Steps of learning: `parse` a document, `embed` a batch of passages, `index` a batch of vectors.",
    "`embed`: the embedding model is slow; `index`: the vector store; `parse`: large files, or too few CPUs.",
    ("step",),
    _LONG_S,
)
INGEST_PASSAGES = _counter(
    "ingest_passages_total",
    "passages",
    "Passages that were embedded.",
    "Flat while documents wait: no worker runs `documents`, or the embedder is away.",
)
INGEST_WAITING = _gauge(
    "ingest_waiting_documents",
    "versions",
    "Versions that wait to be learnt or are in work, by `status`, as the relay counts them.",
    "Growing `queued`: add workers or `worker.document_slots`. Growing `indexing`: the consumer `index` stands still.",
    ("status",),
)

SERVICE_HEALTH = _gauge(
    "service_health",
    "1 or 0",
    "Whether a process can use a service: 1 if it answered the last time it was asked (every 2 s).",
    "0: that service is away from this process; `/health/ready` says what is missing.",
    ("service",),
)
SERVICE_ERRORS = _counter(
    "service_errors_total",
    "log lines",
    "Lines of level ERROR and above in this process's log.",
    "Read them; each says what happened to which thing.",
    ("logger",),
)
SERVICE_DISK_FREE = _gauge(
    "service_disk_free_ratio",
    "0 to 1",
    "Free part of the disk that holds the home folder of this process.",
    "Below 0.1: enlarge the disk, delete documents, or shorten what Kafka keeps. Full disks stop PostgreSQL and Kafka.",
)

_PROCESS: tuple[Described, ...] = (
    Described(
        "process_resident_memory_bytes",
        "gauge",
        (),
        "bytes",
        "Memory of the process.",
        "Growing without end: restart it, and send a bug report.",
    ),
    Described(
        "process_virtual_memory_bytes", "gauge", (), "bytes", "Address space of the process.", "None; it informs."
    ),
    Described(
        "process_cpu_seconds_total",
        "counter",
        (),
        "seconds",
        "CPU time of the process.",
        "A whole core for long: add processes of this role.",
    ),
    Described(
        "process_start_time_seconds",
        "gauge",
        (),
        "seconds of Unix time",
        "When the process began.",
        "Changing often: it crashes; read the end of its log.",
    ),
    Described(
        "process_open_fds",
        "gauge",
        (),
        "files",
        "Open files and connections.",
        "Near the limit: raise it, or add processes.",
    ),
    Described(
        "process_max_fds",
        "gauge",
        (),
        "files",
        "How many there may be.",
        "Raise it (`ulimit -n`) where streams are refused.",
    ),
)
METRICS.update({described.name: described for described in _PROCESS})
ProcessCollector(registry=REGISTRY)
