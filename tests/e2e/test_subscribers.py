"""Services written against the published contracts alone read what happens in a running Ragline."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]

from tests.lint.tree import PACKAGES, ROOT
from tests.stack import DevStack, environment, eventually

pytestmark = pytest.mark.timeout(300)

EXAMPLES = ROOT / "docs" / "examples"
READ = ["ragline.chat.message_posted.v1", "ragline.chat.completion_completed.v1"]
ASYNCAPI_SPECS = "@asyncapi/specs@6.11.1"


class Service:
    """A subscriber as a process; its lines, as they come."""

    def __init__(self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> None:
        self.records: list[dict[str, Any]] = []
        self._errors = folder / "errors.txt"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment(env), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.records.append(json.loads(line))

    def of(self, session_id: str) -> list[dict[str, Any]]:
        """What it read of a session."""
        return [record for record in list(self.records) if record["body"]["session_id"] == session_id]

    def until_answered(self, session_id: str, *, n_answers: int = 1) -> list[dict[str, Any]]:
        """What it read of a session, as soon as so many answers are among it."""
        eventually(
            lambda: [record["type"] for record in self.of(session_id)].count(READ[1]) >= n_answers,
            within_s=60,
            why=self._said,
        )
        return self.of(session_id)

    def _said(self) -> str:
        return f"{self.records[-3:]}\n{self._errors.read_text()[-3000:]}"

    def stop(self) -> None:
        """SIGTERM; it ends by itself."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=15)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        assert self._process.returncode == 0, self._said()


@contextmanager
def subscribed(command: Sequence[str | Path], folder: Path, stack: DevStack, group: str) -> Iterator[Service]:
    """A subscriber of the stack, for as long as the block runs."""
    report = stack.report()
    env = {"KAFKA_BOOTSTRAP": report["kafka_bootstrap"], "RAGLINE_URL": stack.base_url, "GROUP": group}
    service = Service(command, folder, {"PATH": os.environ["PATH"], **env})
    try:
        yield service
    finally:
        service.stop()


def ask(stack: DevStack, session_id: str, question: str) -> None:
    """Posts a question."""
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=30) as client:
        posted = client.post(f"/api/v1/sessions/{session_id}/messages", json={"content": question})
        assert posted.status_code == 202, posted.text


@pytest.fixture
def session_id(dev_stack: DevStack) -> str:
    created = httpx.post(f"{dev_stack.base_url}/api/v1/sessions", headers=dev_stack.headers, timeout=30)
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node example with what it needs, and the AsyncAPI project's own schemas."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (CI installs it): the Node example and the AsyncAPI schema need it")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", ASYNCAPI_SPECS]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert installed.returncode == 0, installed.stderr
    return folder


def expect(records: list[dict[str, Any]], questions: Sequence[str], stack: DevStack) -> None:
    """Each question and its answer once, in order, each as the published schema says."""
    assert [record["type"] for record in records] == READ * len(questions)
    assert [record["body"]["content"] for record in records[::2]] == list(questions)
    assert all(record["body"]["content"] for record in records[1::2])
    assert len({record["id"] for record in records}) == len(records)
    versions = [record["body"]["session_version"] for record in records]
    assert versions == sorted(set(versions))
    document = httpx.get(f"{stack.base_url}/asyncapi", timeout=10).json()
    for record in records:
        message = document["components"]["messages"][record["type"]]
        validator = Draft202012Validator({**message["payload"], "components": document["components"]})
        validator.validate(record["body"])


def test_a_python_service_reads_each_event_once(dev_stack: DevStack, session_id: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-I", EXAMPLES / "subscriber.py"]
    with subscribed(command, tmp_path, dev_stack, "python-service") as service:
        ask(dev_stack, session_id, "When does the gate open?")
        expect(service.until_answered(session_id), ["When does the gate open?"], dev_stack)
    with subscribed(command, tmp_path, dev_stack, "from-the-beginning") as again:
        ask(dev_stack, session_id, "And when does it close?")
        expect(again.until_answered(session_id), ["And when does it close?"], dev_stack)


def test_a_node_service_reads_each_event(dev_stack: DevStack, session_id: str, npm: Path) -> None:
    with subscribed(["node", "subscriber.js"], npm, dev_stack, "node-service") as service:
        ask(dev_stack, session_id, "Wann öffnet das Tor? 🚪")
        expect(service.until_answered(session_id), ["Wann öffnet das Tor? 🚪"], dev_stack)


def test_the_examples_know_nothing_of_ours() -> None:
    tree = ast.parse((EXAMPLES / "subscriber.py").read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert "faststream" in imported
    assert not imported & set(PACKAGES)


def test_the_document_is_asyncapi(dev_stack: DevStack, npm: Path) -> None:
    schemas = npm / "node_modules" / "@asyncapi" / "specs" / "schemas"
    validator = Draft7Validator(json.loads((schemas / "3.0.0-without-$id.json").read_text()))
    document = httpx.get(f"{dev_stack.base_url}/asyncapi", timeout=10).json()
    assert document == json.loads((ROOT / "schemas" / "asyncapi.json").read_text())
    assert [error.message for error in validator.iter_errors(document)] == []
    del document["channels"]["chat.events.v1"]["bindings"]["kafka"]["partitions"]
    document["operations"]["edge.send.chat.commands.v1"]["action"] = "shout"
    assert not validator.is_valid(document)
