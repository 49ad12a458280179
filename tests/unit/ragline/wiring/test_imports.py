"""What a role imports is in its memory, and in its start-up, for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("lancedb", "pyarrow", "litellm", "tiktoken", "wordllama", "fastapi")


@pytest.mark.parametrize(
    ("role", "wanted"),
    [("relay", set()), ("worker", {"lancedb", "pyarrow"}), ("edge", {"lancedb", "pyarrow", "fastapi"})],
)
def test_a_role_imports_what_it_needs_and_before_it_serves(role: str, wanted: set[str]) -> None:
    """Later, LanceDB would stop the loop for a second, and garbage collection would look at it each time."""
    code = f"import sys, ragline.wiring.{role}\nprint(*(set({HEAVY!r}) & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert set(found.stdout.split()) == wanted
