"""Kafka: brokers, topics against the registry, replication, a record that is acknowledged, the broker's clock, lag."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from ragline.doctor.clocks import clock
from ragline.doctor.disk import free_space
from ragline.doctor.findings import Finding, Patient
from ragline.doctor.postgres import NOT_OURS
from ragline.settings import Settings
from ragline.wiring.doctor import consumer_lags, count_dead_letters, publish_nothing
from schemas.errors import Retry
from schemas.topics import BROKERS_CLOCK, CHAT_CHUNKS
from storage.log.cluster import FETCH, JOIN_GROUP, PRODUCE, ClusterState, cluster_state
from storage.log.lag import Lag
from storage.log.topic_admin import TopicDiff, diff_topics
from storage.postgres import migrate

REMEDY = "Start Kafka (`ragline dev` starts its own), or set RAGLINE_KAFKA_BOOTSTRAP to its address."
_APPLY = "Run `ragline topics apply`."
_STATIC_MEMBERS = 5
"""The version of JoinGroup with `group.instance.id` (KIP-345, Kafka 2.3), by which consumers are static members."""
LAG_OLD_S = 60.0


async def kafka(patient: Patient) -> AsyncGenerator[Finding, None]:
    """Every check of the broker. Raises: Retry if none answers."""
    bootstrap = patient.settings.kafka_bootstrap
    state = await cluster_state(bootstrap)
    yield _brokers(state)
    yield _topics(await diff_topics(bootstrap))
    if state.topics:
        yield replication(state)
    for finding in (*contradictions(state, patient.settings), *_disks(state)):
        yield finding
    if CHAT_CHUNKS.name in state.topics:
        async for finding in _publish(patient, state):
            yield finding
    if state.topics:
        yield _lags(await consumer_lags(bootstrap), patient.wall_s())


async def dead_letters(patient: Patient) -> AsyncGenerator[Finding, None]:
    """Those that nobody has seen to."""
    try:
        if await migrate.current_revision(patient.dsn) != migrate.head_revision():
            yield Finding("dead_letters", "skipped", NOT_OURS)
            return
        n_open = await count_dead_letters(patient.settings.kafka_bootstrap, patient.dsn)
    except Retry as away:
        yield Finding("dead_letters", "skipped", str(away))
        return
    if n_open:
        remedy = "See them with `ragline dlq stats`; then `ragline dlq redrive` or `ragline dlq discard`."
        yield Finding("dead_letters", "warning", f"{n_open} dead letters are open", remedy)
    else:
        yield Finding("dead_letters", "ok", "none is open")


def _brokers(state: ClusterState) -> Finding:
    spoken = state.api_versions
    found = (
        f"{', '.join(state.brokers)}; newest Produce v{spoken.get(PRODUCE)}, Fetch v{spoken.get(FETCH)},"
        f" JoinGroup v{spoken.get(JOIN_GROUP)}"
    )
    if spoken.get(JOIN_GROUP, 0) < _STATIC_MEMBERS:
        return Finding("kafka", "wrong", found, "Use Apache Kafka 2.3 or newer: consumers are static members.")
    return Finding("kafka", "ok", found)


def _topics(diff: TopicDiff) -> Finding:
    if diff.is_empty:
        return Finding("kafka.topics", "ok", "the broker has what the registry says")
    wrong = [f"{topic.name} is missing" for topic in diff.missing]
    wrong += [
        f"{name}: {setting} is {found}, not {wanted}"
        for name, changes in diff.settings.items()
        for setting, (found, wanted) in changes.items()
    ]
    wrong += diff.conflicts
    remedy = "Make a new cluster or new topics: partition counts never change." if diff.conflicts else _APPLY
    return Finding("kafka.topics", "wrong", "; ".join(wrong), remedy)


def replication(state: ClusterState) -> Finding:
    """Whether every partition can be written to, and a broker may be lost."""
    name = "kafka.replication"
    for attribute, says in (
        ("n_without_leader", "partitions without a leader"),
        ("n_below_minimum", "partitions with fewer replicas in sync than min.insync.replicas: writes are refused"),
    ):
        bad = {topic: n for topic, one in state.topics.items() if (n := getattr(one, attribute))}
        if bad:
            found = ", ".join(f"{topic} has {n}" for topic, n in bad.items())
            return Finding(name, "wrong", f"{says}: {found}", "Bring the brokers that are away back.")
    late = [topic for topic, one in state.topics.items() if one.n_under_replicated]
    if late:
        found = f"replicas are not in sync: {', '.join(late)}"
        return Finding(name, "warning", found, "Bring the brokers that are away back, or wait until they caught up.")
    least, minimum = min((one.replication, one.min_insync) for one in state.topics.values())
    found = f"{len(state.brokers)} brokers, at least {least} replicas, min.insync.replicas {minimum}"
    if len(state.brokers) > 1 and least == 1:
        remedy = "Create the topics with `ragline topics apply --replication 3`, or reassign their partitions."
        return Finding(name, "warning", f"{found}: what a lost broker had is lost", remedy)
    if least > 1 and minimum == 1:
        remedy = "Set min.insync.replicas to 2 on the brokers."
        return Finding(name, "warning", f"{found}: one broker alone may acknowledge, and then be lost", remedy)
    if least > 1 and minimum >= least:
        remedy = "Use one replica more than min.insync.replicas."
        return Finding(name, "warning", f"{found}: without one broker nothing can be written", remedy)
    return Finding(name, "ok", found)


def contradictions(state: ClusterState, settings: Settings) -> Iterator[Finding]:
    """Whether the brokers' settings and ours fit together."""
    name, wrong, remedies = "kafka.settings", [], []
    if state.settings.get("auto.create.topics.enable") == "true":
        wrong.append("the broker creates topics by itself, with settings that are not the registry's")
        remedies.append("Set auto.create.topics.enable=false on the brokers.")
    timeout_ms = settings.worker.session_timeout_ms
    lowest = int(state.settings.get("group.min.session.timeout.ms", "0"))
    highest = int(state.settings.get("group.max.session.timeout.ms", str(timeout_ms)))
    if not lowest <= timeout_ms <= highest:
        wrong.append(f"worker.session_timeout_ms is {timeout_ms}, and the broker takes {lowest} to {highest}")
        remedies.append(f"Set RAGLINE_WORKER__SESSION_TIMEOUT_MS to {lowest} or more.")
        yield Finding(name, "wrong", "; ".join(wrong), " ".join(remedies))
    elif wrong:
        yield Finding(name, "warning", "; ".join(wrong), " ".join(remedies))
    else:
        yield Finding(name, "ok", "the broker's settings fit")


def _disks(state: ClusterState) -> Iterator[Finding]:
    """Of a broker whose folder is on this machine."""
    for folder in (state.settings.get("log.dirs") or state.settings.get("log.dir") or "").split(","):
        if folder and Path(folder).is_dir():
            yield free_space("disk.kafka", Path(folder))


async def _publish(patient: Patient, state: ClusterState) -> AsyncGenerator[Finding, None]:
    """A record that counts for no reader, on the topic that forgets within the hour."""
    asked_s = patient.wall_s()
    try:
        stamp_s = await publish_nothing(patient.settings.kafka_bootstrap)
    except Retry as refused:
        yield Finding("kafka.publish", "wrong", str(refused), "See the broker's log; `kafka.replication` may say why.")
        return
    answered_s = patient.wall_s()
    yield Finding("kafka.publish", "ok", f"a record was acknowledged by all replicas; with connecting it took"
                  f" {(answered_s - asked_s) * 1000:.0f} ms")  # fmt: skip
    by = state.topics[CHAT_CHUNKS.name].settings.get("message.timestamp.type")
    if by == BROKERS_CLOCK["message.timestamp.type"]:
        yield clock("kafka.clock", "the broker", stamp_s, asked_s, answered_s)
    else:
        yield Finding("kafka.clock", "skipped", f"{CHAT_CHUNKS.name} does not have the broker's stamps", _APPLY)


def _lags(lags: list[Lag], now_s: float) -> Finding:
    waiting = [
        (lag.group, lag.n_records, 0.0 if lag.oldest_s is None else now_s - lag.oldest_s)
        for lag in lags
        if lag.n_records
    ]
    if not waiting:
        return Finding("kafka.lag", "ok", f"{', '.join(lag.group for lag in lags)} have read everything")
    found = ", ".join(f"{group}: {n} records, the oldest {age_s:.0f} s old" for group, n, age_s in waiting)
    if all(age_s < LAG_OLD_S for *_, age_s in waiting):
        return Finding("kafka.lag", "ok", found)
    remedy = "Start `ragline worker` and `ragline relay`, or more of the workers; their logs say why they wait."
    return Finding("kafka.lag", "warning", found, remedy)
