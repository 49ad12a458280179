"""How long each step of an answer's preparation took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Steps:
    """Seconds by step, in the order in which they began; a step that is taken twice is the sum."""

    took_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times the block, also if it raises."""
        began = time.perf_counter()
        self.took_s.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.took_s[name] += time.perf_counter() - began
