"""What a process writes to its log."""

from __future__ import annotations

import logging
import subprocess
import sys

from ragline.logs import OnceInAWhile


def test_a_library_says_the_same_thing_once_in_a_while_and_others_say_all() -> None:
    once = OnceInAWhile("aiokafka", every_s=60.0)

    def passes(name: str, msg: str, *args: object) -> bool:
        return once.filter(logging.LogRecord(name, logging.ERROR, "", 0, msg, args, None))

    assert passes("aiokafka.conn", "Unable connect to node %s", 0)
    assert not passes("aiokafka.conn", "Unable connect to node %s", 1)
    assert passes("aiokafka.client", "Topic %s is unknown", "x")
    assert passes("ragline.edge", "Unable connect to node %s", 0)
    assert passes("ragline.edge", "Unable connect to node %s", 0)


_BROKER_AWAY = """
import logging
from pathlib import Path
from ragline.logs import configure, said_once
from ragline.settings import Settings
from ragline.wiring.telemetry import telling
from telemetry.metrics import exposition
import asyncio

async def main():
    configure("edge", level="info", form="json")
    settings = Settings(telemetry={"sentry_dsn": "http://key@127.0.0.1:9/1"})
    async with telling(settings, "edge"):
        [reports] = [one for one in logging.getLogger().handlers if type(one).__name__ == "ErrorReports"]
        sent = []
        reports._client.capture_event = sent.append
        for n in range(30):
            logging.getLogger("aiokafka.conn").error("Unable connect to node %s", n)
        logging.getLogger("LiteLLM").error("Exception occured - %s", "a secret")
        print(len(sent), exposition()[0].count(b'{logger="aiokafka.conn"} 1.0'))

asyncio.run(main())
"""


def test_a_broker_that_is_away_is_one_line_one_count_and_one_report_and_litellm_quotes_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", _BROKER_AWAY], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "1"]
    assert done.stderr.count("Unable connect") == 1
    assert "secret" not in done.stderr
