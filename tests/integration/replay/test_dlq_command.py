"""`ragline dlq`: nothing is done unasked, everything once, and what cannot work says why."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ragline.dev_stack.embedded import EmbeddedServers
from schemas.ids import new_id
from storage.log.producer import LogProducer
from tests.command_line import Run, command_line
from tests.integration.replay.test_dead_letters import bury


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    servers: EmbeddedServers,
    dsn: str,
) -> Run:
    """Runs `ragline dlq …` in this process, against the test's servers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", dsn)
    monkeypatch.setenv("RAGLINE_KAFKA_BOOTSTRAP", servers.kafka_bootstrap)
    return command_line(monkeypatch, capsys, "dlq")


def test_the_command_line(run: Run, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = f"because_{new_id()}"
    tenant = new_id()

    async def set_up() -> list[str]:
        producer = LogProducer(servers.kafka_bootstrap, client_id="test")
        await producer.start()
        try:
            return [str((await bury(producer, tenant, reason=reason)).id) for _ in range(4)]
        finally:
            await producer.stop()

    ids = asyncio.run(set_up())
    mine = ("--reason", reason)

    def listed(*more: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(run("ls", *mine, "--json", *more).out)["letters"]
        return found

    # Looking and trying changes nothing.
    newest = listed()
    assert [letter["id"] for letter in newest] == ids[::-1]
    oldest = newest[-1]["ref"]
    assert all(id_ in run("ls", *mine).out for id_ in ids)
    assert json.loads(run("stats", *mine, "--json").out)["reasons"][0]["n_letters"] == 4
    shown_ = json.loads(run("show", oldest, "--json").out)
    assert (shown_["id"], json.loads(shown_["body"])["name"]) == (ids[0], "dead")
    for what in ("redrive", "discard"):
        tried = run(what, *mine, "--limit", "3")
        assert (tried.code, tried.out.splitlines()[-1]) == (
            0,
            f"nothing was done; {what} these 3 with --execute",
        )
        dry = json.loads(run(what, *mine, "--json").out)
        assert (dry["dry_run"], dry["n_done"], len(dry["letters"])) == (True, 0, 4)
    assert listed() == newest

    # Nobody says yes: nothing is done.
    for answer in ("n\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        asked = run("redrive", *mine, "--execute")
        assert (asked.code, asked.err[:24]) == (1, "redrive 4 of 4 letters? ")
    assert listed() == newest

    # Done: at most as many as allowed, the oldest first, once each, and remembered.
    did = json.loads(run("redrive", *mine, "--execute", "--yes", "--limit", "2", "--json").out)
    assert (did["dry_run"], did["n_matched"], did["n_done"]) == (False, 4, 2)
    assert {letter["id"] for letter in did["letters"]} == set(ids[:2])
    assert [letter["id"] for letter in listed()] == ids[:1:-1]
    assert run("redrive", oldest, "--execute", "--yes").out.endswith("redrive: 0 done, 1 were done before\n")
    third = newest[1]["ref"]
    assert run("discard", third, "--execute", "--yes").out.endswith("discard: 1 done\n")
    assert [letter["id"] for letter in listed()] == ids[3:]
    assert run("redrive", third, "--execute", "--yes").out.endswith("redrive: 1 done\n")
    by = {letter["id"]: letter["action"] and letter["action"]["action"] for letter in listed("--all")}
    assert by == {ids[0]: "redriven", ids[1]: "redriven", ids[2]: "redriven", ids[3]: None}
    assert all(one["action"] is None or one["action"]["by"].startswith("cli:") for one in listed("--all"))
    assert listed("--since", "1h") == listed("--since", newest[0]["at"])


def test_what_anybody_wrote_does_not_reach_the_terminal_raw(run: Run, servers: EmbeddedServers) -> None:
    reason = f"because_{new_id()}"

    async def set_up() -> None:
        producer = LogProducer(servers.kafka_bootstrap, client_id="test")
        await producer.start()
        await bury(producer, new_id(), reason=reason, error="red \x1b[31m bell \x07 c1 \x9b2J\nFäden 日本 ✓")
        await producer.stop()

    asyncio.run(set_up())
    says = r"red \x1b[31m bell \x07 c1 \x9b2J\nFäden 日本 ✓"
    assert says in run("ls", "--reason", reason).out
    ref = json.loads(run("ls", "--reason", reason, "--json").out)["letters"][0]["ref"]
    shown_ = run("show", ref).out
    assert shown_.count(says) == 2
    assert not {c for c in shown_ if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ls", "--topic", "chat.chunks.v1"), 2, '"chat.chunks.v1" has no dead letters; known: chat.commands.v1'),
        (("ls", "--since", "soon"), 2, '"soon" is neither an age (90s, 30m, 2h, 7d) nor a time'),
        (("show", "here"), 2, '"here" names no dead letter; write TOPIC/PARTITION/OFFSET'),
        (("show", "chat.commands.v1/0/999999999"), 1, "there is no dead letter at chat.commands.v1/0/999999999"),
        (("redrive", "--limit", "0"), 2, "is not in the range"),
    ],
)
def test_what_cannot_work_says_why(run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    ended = run(*arguments)
    assert ended.code == code
    assert says in " ".join(ended.err.replace("│", " ").split())
