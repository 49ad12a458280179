"""The protocol holds in every state of every scenario, and every rule of it is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from tests.model.stream_model import check
from tests.model.stream_world import Mutation, Scenario

HOLDS = {
    "one death, no requests": Scenario(n_connects=()),
    "all requests, restarts": Scenario(n_connects=(), prefill=False, can_cancel=True, can_delete=True, can_fail=True),
    "two deaths": Scenario(n_connects=(), n_faults=2, n_in_flight=1, n_chars=1),
    "two deaths, restarts": Scenario(n_connects=(), n_faults=2, n_in_flight=1, n_chars=1, prefill=False),
    "reader, prefill": Scenario(can_fail=True, n_in_flight=1),
    "reader, restarts": Scenario(prefill=False),
    "reader, restarts, cancel": Scenario(prefill=False, can_cancel=True, n_in_flight=1, n_chars=1),
    "reader reconnects to an edge that is behind": Scenario(n_connects=(2,), n_in_flight=1),
    "reader reconnects across a restart": Scenario(n_connects=(2,), n_in_flight=1, n_chars=1, prefill=False),
    "two readers": Scenario(n_connects=(1, 1), n_chars=1, n_in_flight=1),
    "lagging edges, delete": Scenario(n_chars=1, n_in_flight=1, can_delete=True, edges_lag=True),
    "resumed, prefill": Scenario(prefix="p", n_in_flight=1),
    "resumed, restarts": Scenario(prefix="p", n_chars=1, n_in_flight=1, prefill=False),
    "resumed, cancel, delete": Scenario(
        prefix="p", n_chars=1, n_in_flight=1, n_faults=0, can_cancel=True, can_delete=True
    ),
}
LOST_LOG = {
    "retention, prefill": Scenario(has_retention=True, n_in_flight=1, n_chars=1, epoch_is_attempt=True),
    "retention, restarts": Scenario(has_retention=True, n_in_flight=1, n_chars=1, prefill=False, epoch_is_attempt=True),
}
_RETENTION = LOST_LOG["retention, prefill"]
BREAKS: dict[Mutation, Scenario] = {
    "taker_sends_no_attempt_opened": Scenario(n_connects=()),
    "taker_folds_only_to_its_checkpoint": Scenario(n_connects=()),
    "taker_ignores_finished": Scenario(n_connects=()),
    "taker_calls_though_cancelling": Scenario(n_connects=(), can_cancel=True),
    "call_unfenced": Scenario(n_connects=()),
    "taker_ignores_lost_log": _RETENTION,
    "restart_without_new_epoch": Scenario(n_connects=(), prefill=False),
    "checkpoint_of_sent_text": Scenario(n_connects=()),
    "checkpoint_unfenced": Scenario(n_connects=()),
    "final_unfenced": Scenario(n_connects=()),
    "final_before_acks": Scenario(n_connects=()),
    "final_ignores_cancel": Scenario(n_connects=(), can_cancel=True),
    "ended_published_outside_transaction": Scenario(n_faults=0),
    "reader_ignores_attempt": Scenario(),
    "reader_ends_short": _RETENTION,
    "reader_starts_resumed_from_empty": Scenario(prefix="p", n_faults=0),
    "edge_refuses_at_once": Scenario(n_connects=(2,), n_faults=0),
    "edge_sends_from_where_it_is": Scenario(n_connects=(2,), n_faults=0),
    "gap_keeps_old_attempt": _RETENTION,
    "lost_log_ends_in_the_old_epoch": replace(_RETENTION, can_cancel=True),
    "lost_log_checkpoints_at_once": Scenario(
        has_retention=True, n_in_flight=1, n_chars=1, n_faults=2, n_connects=(), epoch_is_attempt=True
    ),
}


@pytest.mark.parametrize("scenario", HOLDS.values(), ids=HOLDS.keys())
def test_every_invariant_holds_in_every_state(scenario: Scenario) -> None:
    report = check(scenario)
    assert report.broken is None, report.told()
    print(report.told())


@pytest.mark.parametrize("scenario", LOST_LOG.values(), ids=LOST_LOG.keys())
def test_every_invariant_holds_when_retention_takes_the_log(scenario: Scenario) -> None:
    report = check(scenario)
    assert report.broken is None, report.told()


@pytest.mark.parametrize("mutation", BREAKS)
def test_a_protocol_without_the_rule_breaks_an_invariant(mutation: Mutation) -> None:
    report = check(replace(BREAKS[mutation], mutation=mutation))
    assert report.broken is not None, f"nothing is lost without this rule: {report.told()}"
    assert report.trace
    print(report.told())


def test_every_mutation_is_tried() -> None:
    assert set(BREAKS) == set(get_args(Mutation))


@pytest.mark.parametrize(
    "scenario", [each for each in dict.fromkeys(BREAKS.values()) if not each.has_retention], ids=str
)
def test_the_same_scenario_holds_with_the_rule(scenario: Scenario) -> None:
    report = check(scenario)
    assert report.broken is None, report.told()
