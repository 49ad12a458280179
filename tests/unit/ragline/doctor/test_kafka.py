"""What the state of a cluster of several brokers means: the tests' own Kafka has one."""

from __future__ import annotations

import pytest

from ragline.doctor.kafka import contradictions, replication
from ragline.settings import Settings
from storage.log.cluster import ClusterState, TopicState


def state(
    *, brokers: int = 3, replicas: int = 3, minimum: int = 2, leaderless: int = 0, late: int = 0, short: int = 0
) -> ClusterState:
    topic = TopicState(12, replicas, leaderless, late, short, {"min.insync.replicas": str(minimum)})
    return ClusterState([f"kafka-{n}:9092" for n in range(brokers)], {}, {}, {"chat.events.v1": topic})


@pytest.mark.parametrize(
    ("cluster", "status", "says"),
    [
        (state(), "ok", "3 brokers, at least 3 replicas, min.insync.replicas 2"),
        (state(brokers=1, replicas=1, minimum=1), "ok", "1 brokers, at least 1 replicas"),
        (state(leaderless=2), "wrong", "without a leader: chat.events.v1 has 2"),
        (state(short=3), "wrong", "writes are refused: chat.events.v1 has 3"),
        (state(late=1), "warning", "not in sync: chat.events.v1"),
        (state(replicas=1, minimum=1), "warning", "what a lost broker had is lost"),
        (state(minimum=1), "warning", "one broker alone may acknowledge"),
        (state(replicas=2), "warning", "without one broker nothing can be written"),
    ],
)
def test_replication(cluster: ClusterState, status: str, says: str) -> None:
    finding = replication(cluster)
    assert (finding.status, says in finding.found) == (status, True), finding
    assert bool(finding.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, "ok"),
        ({"auto.create.topics.enable": "false", "group.min.session.timeout.ms": "6000"}, "ok"),
        ({"auto.create.topics.enable": "true"}, "warning"),
        ({"group.min.session.timeout.ms": "6001"}, "wrong"),
        ({"group.max.session.timeout.ms": "5999"}, "wrong"),
    ],
)
def test_settings_of_broker_and_worker(given: dict[str, str], status: str) -> None:
    (finding,) = contradictions(ClusterState([], {}, given, {}), Settings())
    assert finding.status == status
