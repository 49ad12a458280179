"""What a person at a terminal sees, and what a wrong key or a missing file says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.terminal import at_a_terminal
from tests.stack import DevStack

pytestmark = pytest.mark.timeout(240)


def _at_a_terminal(stack: DevStack, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and all that a terminal was sent."""
    with at_a_terminal(stack, *arguments) as terminal:
        return terminal.ended(), terminal.seen.decode()


def _plain(seen: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).split())


def test_bars_and_citations(dev_stack: DevStack, tmp_path: Path) -> None:
    (tmp_path / "kettle.txt").write_text("The kettle whistles when the water boils. It is made of [red] enamel.")
    code, seen = _at_a_terminal(dev_stack, "upload", tmp_path / "kettle.txt")
    assert code == 0, seen
    assert "\x1b[" in seen
    assert "kettle.txt indexed" in _plain(seen)
    code, seen = _at_a_terminal(dev_stack, "ask", "When does the kettle whistle?")
    assert code == 0, seen
    assert "The kettle whistles when the water boils." in _plain(seen)
    assert "[1] kettle.txt" in _plain(seen)
    assert "session " in _plain(seen)


def test_a_wrong_key(dev_stack: DevStack) -> None:
    asked = dev_stack.ragline("ask", "--api-key", "f" * 64, "why?")
    assert (asked.returncode, asked.stdout) == (3, "")
    assert asked.stderr == "error: the server does not know this API key; give another with --api-key\n"


def test_an_unknown_model(dev_stack: DevStack) -> None:
    asked = dev_stack.ragline("ask", "--model", "fats", "why?")
    assert asked.returncode == 1
    assert re.fullmatch(r"error: .*\"?fats\"? .*\n", asked.stderr)


def test_an_unknown_session(dev_stack: DevStack) -> None:
    asked = dev_stack.ragline("ask", "--session", "00000000-0000-7000-8000-000000000000", "why?")
    assert asked.returncode == 1
    assert asked.stderr == "error: there is no such session (session_not_found)\n"


def test_the_other_edge_answers_when_one_dies(dev_stack: DevStack) -> None:
    """The dead edge is the first that `ask` tries."""
    dev_stack.kill("edge")
    asked = dev_stack.ragline("ask", "--json", "When does the kettle whistle?")
    assert asked.returncode == 0, asked.stderr
