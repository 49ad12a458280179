"""`ragline rebuild` as an operator runs it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from schemas.ids import new_id
from storage.postgres.unit_of_work import Database
from tests.command_line import Ended, Run
from tests.integration.cli.test_operator_commands import fresh_dsn, nobody, run
from tests.integration.rebuild.walk import Walk

__all__ = ["fresh_dsn", "nobody", "run"]


async def conversations(dsn: str) -> Walk:
    database = Database(dsn)
    walk = Walk(database, seed=3, n_sessions=2)
    async with database.transaction() as work:
        await work.execute("INSERT INTO tenants (id, name) VALUES ($1, 'walked')", walk.tenant_id)
    await walk.walk(15)
    await walk.finish()
    await database.close()
    return walk


async def execute(dsn: str, sql: str) -> int:
    database = Database(dsn)
    async with database.transaction() as work:
        n_rows = await work.execute(sql)
    await database.close()
    return n_rows


def test_damage_is_shown_then_mended(run: Run, fresh_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_BLOBS", str(tmp_path / "blobs"))
    walk = asyncio.run(conversations(fresh_dsn))
    clean = run("rebuild", "conversations")
    assert (clean.code, clean.err) == (0, "")
    assert clean.out.startswith("2 sessions, ")
    assert clean.out.endswith(" messages: 0 rows differ\n")
    n_lost = asyncio.run(execute(fresh_dsn, "DELETE FROM messages"))
    assert n_lost > 0
    shown = run("rebuild", "conversations", "--json", "--tenant", str(walk.tenant_id))
    found = json.loads(shown.out)
    assert (shown.code, found["dry_run"], found["n_different"], found["n_mended"]) == (1, True, n_lost, 0)
    assert {one["kind"] for one in found["differences"]} == {"missing"}
    assert run("rebuild", "conversations").out.endswith("nothing was changed; mend with --execute\n")
    mended = run("rebuild", "conversations", "--execute")
    assert (mended.code, mended.out.splitlines()[-1]) == (0, f"{n_lost} rows mended")
    assert run("rebuild", "conversations").out == clean.out


def test_vectors_of_nothing(run: Run, fresh_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_VECTORS", str(tmp_path / "vectors"))
    id_ = new_id()
    assert asyncio.run(execute(fresh_dsn, f"INSERT INTO tenants (id, name) VALUES ('{id_}', 'empty')")) == 1
    assert run("rebuild", "vectors", "--tenant", str(id_)) == Ended(0, "0 passages: 0 rows differ\n", "")
    found = json.loads(run("rebuild", "vectors", "--json", "--execute").out)
    assert (found["dry_run"], found["n_different"], found["n_mended"]) == (False, 0, 0)


@pytest.mark.usefixtures("fresh_dsn")
def test_a_tenant_that_is_none_is_wrong_use(run: Run) -> None:
    id_ = new_id()
    assert run("rebuild", "conversations", "--tenant", str(id_)) == Ended(2, "", f"error: there is no tenant {id_}\n")


def test_without_postgres(run: Run, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", f"postgresql://ragline@{nobody}/ragline")
    ended = run("rebuild", "conversations")
    assert ended.code == 3
    assert ended.err.count("\n") == 1
