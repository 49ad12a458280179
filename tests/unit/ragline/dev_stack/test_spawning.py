"""Children: their end is seen, asked for and forced."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ragline.dev_stack import spawning
from ragline.dev_stack.spawning import Child, Spawner


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    made = Spawner()
    yield made
    made.close()


def _python(spawner: Spawner, folder: Path, code: str, *, fed: bool = False) -> Child:
    return spawner.spawn("child", [sys.executable, "-c", code], log=folder / "child.log", fed=fed)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def _says(child: Child, text: str) -> None:
    while text not in child.tail():
        assert child.alive, child.tail()


async def test_the_pid_is_the_programs_and_its_end_is_seen(spawner: Spawner, tmp_path: Path) -> None:
    child = _python(spawner, tmp_path, "import os, sys; print(os.getpid(), os.getsid(0)); sys.exit(7)")
    assert await child.exited() == 7
    assert child.tail() == f"{child.pid} {child.pid}"
    assert not child.alive


async def test_a_tail_shows_this_childs_last_lines_only(spawner: Spawner, tmp_path: Path) -> None:
    await _python(spawner, tmp_path, "print('earlier')").exited()
    child = _python(spawner, tmp_path, "print(*range(9), sep='\\n')")
    await child.exited()
    assert child.tail(2) == "7\n8"
    assert "earlier" not in child.tail(50)


async def test_input_is_what_is_fed(spawner: Spawner, tmp_path: Path) -> None:
    child = _python(spawner, tmp_path, "import sys; print(sys.stdin.read().upper())", fed=True)
    child.feed("secret")
    assert await child.exited() == 0
    assert child.tail() == "SECRET"


async def test_one_that_ignores_the_signal_is_killed(spawner: Spawner, tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = _python(spawner, tmp_path, code)
    await _says(child, "deaf")
    await child.stop(timeout_s=0.2)
    assert await child.exited() == -signal.SIGKILL


async def test_what_a_child_started_ends_with_it(spawner: Spawner, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('pid', p.pid, flush=True); sys.exit()"
    )
    child = _python(spawner, tmp_path, code)
    await child.exited()
    grandchild = int(child.tail().split()[1])
    async with asyncio.timeout(5):
        while is_running(grandchild):
            await asyncio.sleep(0)
    assert not is_running(grandchild)


async def test_ending_now_needs_no_loop(spawner: Spawner, tmp_path: Path) -> None:
    child = _python(spawner, tmp_path, "import time; time.sleep(60)")
    child.end_now()
    assert not child.alive
    child.end_now()


async def test_a_large_log_is_put_aside(spawner: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawning, "LOG_LIMIT_BYTES", 10)
    (tmp_path / "child.log").write_text("x" * 11)
    child = _python(spawner, tmp_path, "print('new')")
    await child.exited()
    assert (tmp_path / "child.log").read_text() == "new\n"
    assert (tmp_path / "child.log.1").read_text() == "x" * 11
