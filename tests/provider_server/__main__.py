"""`python -m tests.provider_server --port 9000`: prints its address and serves until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal

from tests.provider_server.server import ProviderServer


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.provider_server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--set", default="{}", help="behaviour of all models, as in '{\"tokens_per_s\": 60}'")
    arguments = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ProviderServer(arguments.host, arguments.port)
    server.set(**json.loads(arguments.set))
    async with server:
        print(server.url, flush=True)
        await stop.wait()


asyncio.run(_main())
