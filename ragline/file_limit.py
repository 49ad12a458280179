"""How many files, sockets among them, this process may have open."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

RESERVED = 500
"""For what is no stream: requests, connections to Kafka and PostgreSQL, blobs."""


def streams_that_fit(wanted: int) -> int:
    """Raises the limit of open files as far as the system lets; how many of the streams fit into it, at least one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fitting = wanted if hard == resource.RLIM_INFINITY else max(1, min(wanted, hard - RESERVED))
    if fitting < wanted:
        logger.warning("at most %d streams, not %d: the system lets a process open %d files", fitting, wanted, hard)
    return fitting
