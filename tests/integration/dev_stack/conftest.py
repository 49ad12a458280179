"""Supervised stacks that end with their test, whatever it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.dev_stack.supervised import Stack


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    stacks: list[Stack] = []

    def start_one(*options: str, listening: bool = True) -> Stack:
        stacks.append(Stack(tmp_path / "home", *options, listening=listening))
        return stacks[-1]

    yield start_one
    for stack in stacks:
        if stack.process.poll() is None:
            stack.process.kill()
            stack.process.wait()
        for pid in stack.left_over():
            psutil.Process(pid).kill()
