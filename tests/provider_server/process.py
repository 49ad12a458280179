"""The provider in a process of its own, which outlives what the test kills."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def provider_process(**behaviour: Any) -> Iterator[str]:
    """Its URL; `behaviour` holds for every model."""
    command = [sys.executable, "-m", "tests.provider_server", "--set", json.dumps(behaviour)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
