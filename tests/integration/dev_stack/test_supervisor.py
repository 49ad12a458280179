"""The real supervisor over small stand-in programs: what dies comes back, and nothing is ever left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.dev_stack.supervised import Stack, alive, eventually


def test_the_ready_file_says_what_runs(start: Callable[..., Stack]) -> None:
    stack = start("--edges", "2")
    report = stack.ready()
    assert list(report) == [
        "base_url", "api_key", "admin_email", "admin_password", "kafka_bootstrap", "postgres_dsn", "home", "processes",
    ]  # fmt: skip
    assert [p["role"] for p in report["processes"]] == ["edge", "edge", "worker", "relay"]
    assert report["base_url"] == report["processes"][0]["url"]
    assert all(alive(p["pid"]) for p in report["processes"])
    assert stack.ready_file.stat().st_mode & 0o777 == 0o600
    assert (stack.home / "ready.json").read_text() == stack.ready_file.read_text()
    given = json.loads((stack.home / "bootstrapped.json").read_text())
    assert given["api_key"] == report["api_key"]
    assert len(report["api_key"]) == 64


@pytest.mark.parametrize("role", ["edge", "worker", "relay"])
def test_a_killed_role_comes_back_at_once(start: Callable[..., Stack], role: str) -> None:
    stack = start()
    before = stack.ready()
    killed = stack.pid(role)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not alive(killed))
    eventually(lambda: stack.pid(role) not in {None, killed}, within_s=1.0)
    after = stack.report()
    assert [p.get("url") for p in after["processes"]] == [p.get("url") for p in before["processes"]]
    assert not stack.left_over() or killed not in stack.left_over()


def test_what_a_killed_role_had_started_dies_with_it(start: Callable[..., Stack]) -> None:
    stack = start()
    stack.ready()
    worker = stack.pid("worker")
    assert worker is not None
    (grandchild,) = eventually(lambda: psutil.Process(worker).children())
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not alive(grandchild.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_and_again_is_one_orderly_stop(
    start: Callable[..., Stack], number: signal.Signals
) -> None:
    stack = start()
    stack.ready()
    os.killpg(stack.process.pid, number)
    stack.process.send_signal(number)
    assert stack.ends() == 0, stack.output.read_text()
    assert stack.left_over() == []
    assert not stack.ready_file.exists()
    assert not (stack.home / "ready.json").exists()
    assert "Traceback" not in stack.output.read_text()


def test_a_frozen_role_does_not_hold_up_the_stop(start: Callable[..., Stack]) -> None:
    stack = start()
    stack.ready()
    worker = stack.pid("worker")
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    stack.process.send_signal(signal.SIGTERM)
    assert stack.ends() == 0
    assert stack.left_over() == []


def test_a_killed_supervisor_leaves_nothing_behind(start: Callable[..., Stack]) -> None:
    stack = start()
    stack.ready()
    worker = stack.pid("worker")
    assert worker is not None
    eventually(lambda: psutil.Process(worker).children())
    stack.report()
    assert len(stack.seen) >= 5  # edge, worker, its child, relay, watchdog
    stack.process.kill()
    stack.process.wait()
    eventually(lambda: stack.left_over() == [], within_s=3.0)


def test_a_stop_while_starting_is_orderly(start: Callable[..., Stack]) -> None:
    stack = start("--broken-worker")
    eventually(lambda: "starting edges" in stack.output.read_text())
    stack.process.send_signal(signal.SIGINT)
    assert stack.ends() in {0, 1}
    assert "Traceback" not in stack.output.read_text()


def test_a_role_that_cannot_start_ends_the_stack_with_its_reason(start: Callable[..., Stack]) -> None:
    stack = start("--broken-worker")
    assert stack.ends() == 1
    output = stack.output.read_text()
    assert "setting models: broken on purpose" in output
    assert "error: worker-1 ended with code 1 before it was ready" in output
    assert "Traceback" not in output


def test_a_second_stack_on_one_home_is_refused_in_one_line(start: Callable[..., Stack]) -> None:
    first = start()
    first.ready()
    second = start()
    assert second.ends() == 1
    assert f"is in use by process {first.process.pid}" in second.output.read_text()
    assert (first.home / "ready.json").exists()
    assert first.process.poll() is None


def test_a_taken_port_is_one_line(start: Callable[..., Stack]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = start("--port", str(port))
        assert stack.ends() == 1
    assert stack.output.read_text().strip() == (
        f"error: port {port} is in use; stop what listens there or choose another with --port"
    )


def test_a_stale_ready_file_is_gone_at_once(start: Callable[..., Stack], tmp_path: Path) -> None:
    stale = tmp_path / "ready.json"
    stale.write_text("{}")
    stack = start()
    eventually(lambda: "api_key" in _text(stale))
    assert stack.process.poll() is None


def _text(path: Path) -> str:
    """Of a file that may be removed at any moment."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_a_closed_terminal_changes_nothing_but_what_is_shown(start: Callable[..., Stack]) -> None:
    stack = start(listening=False)
    stack.ready()
    worker = stack.pid("worker")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)  # is told of, to nobody
    eventually(lambda: stack.pid("worker") not in {None, worker})
    assert stack.process.poll() is None
    stack.process.send_signal(signal.SIGHUP)
    assert stack.ends() == 0
    assert stack.left_over() == []


def test_the_kernel_ends_the_children_where_the_watchdog_is_dead(start: Callable[..., Stack]) -> None:
    stack = start()
    report = stack.ready()
    children = psutil.Process(stack.process.pid).children()
    (watchdog,) = [p for p in children if p.cmdline()[-1].endswith("watchdog.py")]
    watchdog.kill()
    stack.process.kill()
    stack.process.wait()
    assert eventually(lambda: not any(alive(p["pid"]) for p in report["processes"]), within_s=3.0)


def test_the_watchdog_ends_what_the_kernel_does_not(start: Callable[..., Stack]) -> None:
    stack = start()
    stack.ready()
    worker = stack.pid("worker")
    assert worker is not None
    (grandchild,) = eventually(lambda: psutil.Process(worker).children())
    stack.process.kill()
    stack.process.wait()
    assert eventually(lambda: not alive(grandchild.pid), within_s=3.0)
