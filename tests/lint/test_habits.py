"""Small rules that keep the code from rotting: each with its reason, in the message of its failure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ragline.settings import ModelSettings, Settings
from schemas.topics import TOPICS
from tests.lint.tree import Source, imports, parsed, product, sources

REGISTRY = "schemas/topics.py"
TOPIC_NAMES = {name for topic in TOPICS for name in (topic.name, topic.dead_letter_topic)}

SLEEPS = {
    "tests/provider_server/server.py": "a provider that is as slow as it was asked to be",
    "tests/integration/dev_stack/stand_in.py": "a process that stays",
    "tests/integration/documents/room.py": "a blob store that is slow",
    "tests/integration/documents/test_outages.py": "a lease runs out while nobody can be asked whether it has",
    "tests/integration/edge/test_feed.py": "writers that interleave",
    "tests/integration/postgres/test_leases.py": "that nothing happens in the meantime can only be waited for",
    "tests/integration/postgres/test_unit_of_work.py": "tasks that are cancelled at any moment",
    "tests/chaos/playing.py": "clients that do not begin all at once",
    "tests/chaos/striker.py": "strikes at the times of the plan",
}


def test_topics_are_named_by_the_registry() -> None:
    """A topic that is not registered has no schema, no key and no readers that anybody knows of."""
    ours = [source for source in sources() if not source.is_test and source.path != REGISTRY]
    found = [place for source in ours for place in _topic_names(source)]
    assert not found, f"write CHAT_EVENTS.name: {REGISTRY} alone says what a topic is called: {found}"


def _topic_names(source: Source) -> list[str]:
    docstrings = {
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        f"{source.path}:{node.lineno} {node.value}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and node not in docstrings and node.value in TOPIC_NAMES
    ]


def test_nothing_sleeps_to_wait() -> None:
    """A test that sleeps is slow where the machine is fast, and fails where it is slow."""
    found = {source.path: lines for source in sources() if source.is_test and (lines := list(_sleeps(source)))}
    assert found.keys() == SLEEPS.keys(), (
        "wait for what you want to see (a `while` that asks for it, under a timeout), or say in SLEEPS why the time"
        f" itself is meant: {sorted((path, found.get(path)) for path in found.keys() ^ SLEEPS.keys())}"
    )


def _sleeps(source: Source) -> Iterator[int]:
    """Lines that let time pass outside a `while` of the same function; `sleep(0)` is only a turn of the loop."""

    def within(node: ast.AST, *, asks: bool) -> Iterator[int]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and ast.unparse(child.func) in {"time.sleep", "asyncio.sleep", "sleep"}:
                if not asks and ast.unparse(child.args[0]) != "0":
                    yield child.lineno
            elif isinstance(child, ast.While):
                yield from within(child, asks=True)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from within(child, asks=False)
            else:
                yield from within(child, asks=asks)

    return within(source.tree, asks=False)


def test_nothing_real_is_mocked() -> None:
    """A mock says what its author believed; the real server says what is so."""
    found = [f"{source.path}:{line}" for source in sources() if source.is_test for line in _mocks(source)]
    assert not found, (
        f"use the real thing (`servers`, `s3_server`, `tests.provider_server`) or a fake of a port: {found}"
    )


def _mocks(source: Source) -> list[int]:
    return [line for name, line in imports(source) if name.startswith(("unittest.mock", "mock", "pytest_mock"))]


def test_a_cancellation_is_not_swallowed() -> None:
    """Python 3.11's `wait_for` returns a result that comes in the same moment: the task that was cancelled goes on."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"asyncio.wait_for", "wait_for"}
    ]
    assert not found, f"write `async with asyncio.timeout(…)`: {found}"


def test_every_setting_is_read() -> None:
    """A setting that nothing reads is a promise that nothing keeps."""
    read = {
        node.attr
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {".".join(path) for path in _settings(Settings)} | {
        f"models.{name}" for name in ModelSettings.model_fields
    }
    unread = {name for name in unread if name.rpartition(".")[2] not in read}
    assert not unread, f"read it where it counts, or remove it: {unread}"


def _settings(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from ((name, *rest) for rest in _settings(inner))
        else:
            yield (name,)


def test_the_lints_find_what_they_look_for() -> None:
    bad = parsed("tests/bad.py", _BAD)
    assert list(_sleeps(bad)) == [7, 11]
    assert _mocks(bad) == [2, 2]
    assert _topic_names(bad) == ["tests/bad.py:5 chat.events.v1"]
    assert ("edge", "port") in set(_settings(Settings))


_BAD = '''\
"""About chat.events.v1."""
from unittest.mock import Mock
import time

topic = "chat.events.v1"
def f():
    time.sleep(1)
    time.sleep(0)
    while not seen():
        time.sleep(0.01)
        g = lambda: time.sleep(2)
'''
