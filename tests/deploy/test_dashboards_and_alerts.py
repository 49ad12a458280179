"""Dashboards and alerts ask for what is really exposed; every alert has its runbook lines and its promtool test."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from telemetry.metrics import METRICS, exposition
from tests.deploy.promql import labels, metric_of, series
from tests.lint.tree import ROOT

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {str(rule["alert"]): rule for rule in RULES}
QUERIES = {
    f"{name}: {panel['title']} {target['refId']}": str(target["expr"])
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
} | {f"alert {name}": str(rule["expr"]) for name, rule in ALERTS.items()}


def promtool() -> str:
    """The program; skips the test where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: the package prometheus)")
    return found


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    names = series(query)
    assert names
    unknown = {name for name in names if metric_of(name) is None}
    assert not unknown, "no such series is exposed; see docs/metrics.md"
    known = {label for name in names for label in METRICS[str(metric_of(name))].labels}
    assert labels(query) <= known


def test_every_metric_is_really_exposed() -> None:
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(exposition()[0].decode())
    }
    asked = {str(metric_of(name)) for query in QUERIES.values() for name in series(query)}
    assert asked <= exposed


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_provisioned(name: str) -> None:
    dashboard = DASHBOARDS[name]
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/ragline.yml").read_text())["datasources"]
    [source] = [source for source in sources if source["type"] == "prometheus"]
    assert dashboard["uid"] == f"ragline-{name}"
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert all(panel["description"].endswith(".") for panel in dashboard["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_every_alert_has_its_lines_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    sections = re.findall(r"^## (\w+)\n\n\S", runbook, re.MULTILINE)
    assert sections == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_an_alert_on_any_increase_sees_the_first() -> None:
    """A series with labels begins at 1, and Prometheus has nothing to compare it with."""
    for name, rule in ALERTS.items():
        for counter in re.findall(r"increase\((\w+)\[", rule["expr"]) if rule["expr"].endswith("> 0") else ():
            begins = f"({counter} unless {counter} offset "
            assert not METRICS[counter].labels or begins in rule["expr"], name


def test_every_alert_is_tested_to_fire() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == ALERTS.keys()


def test_promtool_agrees() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [promtool(), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_sees_a_rule_that_does_not_hold(tmp_path: Path) -> None:
    rules = (PROMETHEUS / "alerts.yml").read_text().replace('service="postgres"', 'service="somebody"')
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "alerts_test.yml").write_text((PROMETHEUS / "alerts_test.yml").read_text())
    done = subprocess.run(
        [promtool(), "test", "rules", "alerts_test.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "PostgresAway" in done.stdout + done.stderr
