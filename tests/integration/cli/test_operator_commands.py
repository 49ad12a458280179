"""`migrate`, `topics` and `settings` as an operator runs them, against real servers."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from tests.command_line import Ended, Run, command_line


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `ragline …` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command_line(monkeypatch, capsys)


@pytest.fixture
def nobody() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def fresh_dsn(dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database of this test's own, as the settings name it."""
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", dsn)
    return dsn


@pytest.mark.usefixtures("fresh_dsn")
def test_migrate_down_and_up(run: Run) -> None:
    newest = run("migrate", "--check")
    assert (newest.code, newest.out[:25]) == (0, "the schema is the newest:")
    assert run("migrate", "down", "base") == Ended(0, "the schema is base\n", "")
    behind = run("migrate", "--check")
    assert behind.code == 1
    assert behind.out.startswith("the schema is empty, the newest is ")
    assert run("migrate").out.startswith("migrated from an empty database to ")
    assert run("migrate").out == newest.out


@pytest.mark.usefixtures("fresh_dsn")
def test_a_revision_that_is_none_is_wrong_use(run: Run) -> None:
    ended = run("migrate", "down", "never_was")
    assert ended.code == 2
    assert "never_was" in ended.err
    assert "Traceback" not in ended.err


def test_topics(run: Run, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_KAFKA_BOOTSTRAP", servers.kafka_bootstrap)
    assert run("topics", "diff") == Ended(0, "the broker has what the registry says\n", "")
    assert run("topics", "apply").out == "nothing to do: the broker has what the registry says\n"
    assert json.loads(run("topics", "diff", "--json").out) == {"missing": [], "settings": {}, "conflicts": []}


@pytest.mark.parametrize("command", [("topics", "diff"), ("topics", "apply")])
def test_without_kafka(run: Run, command: tuple[str, ...], nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_KAFKA_BOOTSTRAP", nobody)
    ended = run(*command)
    assert ended.code == 3
    assert ended.err.startswith(f"error: Kafka at {nobody}")
    assert ended.err.endswith("start `make dev` in this folder, or set RAGLINE_KAFKA_BOOTSTRAP\n")
    assert ended.err.count("\n") == 1


def test_without_postgres(run: Run, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", f"postgresql://ragline@{nobody}/ragline")
    ended = run("migrate")
    assert ended.code == 3
    assert ended.err.endswith("start `make dev` in this folder, or set RAGLINE_POSTGRES_DSN\n")
    assert ended.err.count("\n") == 1


def test_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_EDGE__PORT", "9001")
    described = json.loads(run("settings", "--json").out)
    assert described["edge.port"] == {"value": 9001, "source": "environment", "where": "RAGLINE_EDGE__PORT"}
    shown = run("settings")
    assert [line.split() for line in shown.out.splitlines() if line.startswith("edge.port")] == [
        ["edge.port", "9001", "environment", "RAGLINE_EDGE__PORT"]
    ]


def test_a_wrong_setting_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_EDGE__PORT", "many")
    for command in (("settings",), ("ask", "why?"), ("worker",), ("migrate",)):
        ended = run(*command)
        assert ended.code == 1
        assert ended.err.startswith("error: setting edge.port: ")
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("ask", "why?"), 3, "error: no Ragline runs in .ragline; start `make dev`"),
        (("ask", "why?", "--url", "nowhere"), 2, 'error: "nowhere" is no server address'),
        (("upload", "missing.pdf"), 2, "error: missing.pdf does not exist"),
        (("upload", "/dev/null"), 2, "error: /dev/null is neither a file nor a folder"),
        (("dev", "--port", "65535", "--edges", "3"), 2, "3 edges from port 65535 on end beyond port 65535"),
        (("upload",), 2, "Missing argument"),
        (("worker", "cook"), 2, 'there is no consumer "cook"'),
        (("ask", "why?", "--session", "x"), 2, "is not a valid UUID"),
    ],
)
def test_what_cannot_work_says_what_to_do(run: Run, command: tuple[str, ...], code: int, says: str) -> None:
    ended = run(*command)
    assert ended.code == code
    assert says in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["ask", "upload", "migrate", "topics diff", "topics apply", "settings"])
def test_exit_codes_are_in_the_help(run: Run, command: str) -> None:
    ended = run(*command.split(), "--help")
    assert "Exit codes: 0" in " ".join(ended.out.split())


def test_the_version(run: Run) -> None:
    assert run("--version").out.startswith("ragline 0")


def test_no_server_is_one_line(run: Run, nobody: str) -> None:
    ended = run("ask", "why?", "--url", f"http://{nobody}", "--api-key", "a" * 64)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"error: no Ragline answers at http://{nobody}; start it with `make dev`, or give --url\n"


def test_init_prepares_empty_servers_and_the_second_time_changes_nothing(
    run: Run, servers: EmbeddedServers, fresh_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh_dsn
    monkeypatch.setenv("RAGLINE_KAFKA_BOOTSTRAP", servers.kafka_bootstrap)
    assert run("migrate", "down", "base").code == 0
    first, second = run("init", "--json"), run("init")
    assert (first.code, second.code) == (0, 0)
    key = json.loads(first.out)["api_key"]
    assert key in second.out
    assert run("migrate", "--check").code == 0
    assert run("topics", "diff").code == 0
