"""A worker's document jobs as a process that a test can kill: `python -m tests.integration.documents.worker …`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from consumers.documents.claims import Claim
from consumers.documents.passages import Reading
from providers.catalog import EmbeddingSpec, build_embedder
from providers.ports import Embedder
from tests.integration.documents.room import DIMENSIONS, HashEmbedder, open_room, read_lines


async def read_or_die(path: Path, claim: Claim) -> Reading:
    """A file named `poison` takes the whole process with it, as a crash of the interpreter would."""
    if claim.name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return await read_lines(path, claim)


async def main(dsn: str, bootstrap: str, folder: str, name: str, api_base: str = "") -> None:
    """Learns until SIGTERM, by the embeddings of API_BASE and with a cache, or by itself.

    Then every embedded text is a line in FOLDER/embedded. What NAME begins with `real` reads files by the real parsers.
    """
    embedder: Embedder = HashEmbedder(log=Path(folder) / "embedded", delay_s=0.05)
    if api_base:
        embedder = build_embedder(EmbeddingSpec("openai/e", api_base=api_base, dimensions=DIMENSIONS))
    async with (
        open_room(dsn, bootstrap, Path(folder)) as room,
        room.learning(
            embedder, name=name, read=None if name.startswith("real") else read_or_die, caches_vectors=bool(api_base)
        ),
    ):
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        print("ready", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
