"""What a process writes to its log."""

from __future__ import annotations

import logging
import time
from typing import Literal, TypeVar

from telemetry.logs import ErrorCounter, JsonFormatter


class OnceInAWhile(logging.Filter):
    """Lets a library say the same thing once in `every_s`: a broker that is away is one line, not thirty a second."""

    def __init__(self, library: str, *, every_s: float) -> None:
        super().__init__()
        self._library = library
        self._every_s = every_s
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what the library said a moment ago."""
        if record.name.partition(".")[0] != self._library:
            return True
        now = time.monotonic()
        if now - self._said_at.get(str(record.msg), -self._every_s) < self._every_s:
            return False
        self._said_at[str(record.msg)] = now
        return True


HandlerT = TypeVar("HandlerT", bound=logging.Handler)


def said_once(handler: HandlerT) -> HandlerT:
    """The handler, which from now on hears once in 10 s of what a library repeats."""
    for library in ("aiokafka", "opentelemetry", "urllib3"):
        handler.addFilter(OnceInAWhile(library, every_s=10.0))
    return handler


def configure(process: str, *, level: str, form: Literal["text", "json"]) -> None:
    """This process's log on its error output; errors are counted in the metrics."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for handler in logging.getLogger().handlers:
        said_once(handler)
        if form == "json":
            handler.setFormatter(JsonFormatter(process))
    logging.getLogger().addHandler(said_once(ErrorCounter()))
    for noisy in ("aiokafka", "faststream", "alembic", "httpx", "opentelemetry", "urllib3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    # it quotes providers, and writes past every handler but its own; what fails in it is raised, and told by us
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL + 1)
