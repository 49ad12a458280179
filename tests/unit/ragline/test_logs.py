"""What a process writes to its log."""

from __future__ import annotations

import logging

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
