"""Prepares database, topics and the first tenant in a process of its own: `python -m ragline.dev_stack.bootstrap`.

It is started early, so that its imports run beside the servers' start; it begins when its input holds one JSON object:
`kafka_bootstrap`, `postgres_dsn`, `admin_email`, `admin_password`, `api_key`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from ragline.settings import SettingsError, load_settings
from schemas.errors import Retry


def main() -> None:
    """Prepare, or end with one line."""
    from ragline.wiring.prepare import prepare

    given = json.loads(sys.stdin.read() or "null")
    if given is None:  # the supervisor stopped before the servers were up
        return
    try:
        settings = load_settings(kafka_bootstrap=given["kafka_bootstrap"], postgres_dsn=given["postgres_dsn"])
    except SettingsError as error:
        sys.exit(str(error))
    preparing = prepare(
        settings,
        admin_email=given["admin_email"],
        admin_password=given["admin_password"],
        api_key=given["api_key"],
    )
    try:
        asyncio.run(preparing)
    except Retry as away:
        sys.exit(f"{away}; is it started, and is its address right?")


if __name__ == "__main__":
    main()
