"""The broker's jars: resolved once per user, pinned by name and SHA-256, usable offline ever after.

`python -m ragline.dev_stack.jars FOLDER LIST` downloads what FOLDER lacks; it runs as a child so that a stop need not
wait for a download. Without arguments it resolves the dependencies anew and writes the committed list.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragline.dev_stack.errors import DevStackError
from ragline.dev_stack.spawning import Spawner

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LIST_FILE = Path(__file__).with_name("kafka_jars.sha256")
COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.1.1",
    "org.apache.logging.log4j:log4j-core:2.25.2",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2",
)
_STAMP = "verified.json"
_SCRATCH = "downloading-"


def read_list(list_file: Path = LIST_FILE) -> dict[str, str]:
    """Path in a Maven repository → SHA-256 in hex, in the format of `sha256sum`."""
    lines = (line.split() for line in list_file.read_text().splitlines() if line.strip())
    return {name: digest for digest, name in lines}


def jar_folder(cache: Path, list_file: Path = LIST_FILE) -> Path:
    """Where the jars of this very list live; another list has another folder."""
    return cache / f"kafka-{hashlib.sha256(list_file.read_bytes()).hexdigest()[:16]}"


async def provide(
    spawner: Spawner, cache: Path, *, log: Path, tell: Callable[[str], None], list_file: Path = LIST_FILE
) -> list[Path]:
    """The listed jars. No network and no hashing if they were verified and are unchanged.

    Raises: DevStackError if a jar is not the listed one or cannot be had.
    """
    folder = jar_folder(cache, list_file)
    listed = read_list(list_file)
    if _unchanged_since_verified(folder, listed):
        return list(_jars(folder, listed))
    folder.mkdir(parents=True, exist_ok=True)
    if not all(jar.is_file() for jar in _jars(folder, listed)):
        await _download(spawner, folder, listed, log=log, tell=tell, list_file=list_file)
    tell("checking Kafka's jars")
    for jar, digest in _jars(folder, listed).items():
        check(jar, digest)
    _write_stamp(folder, listed)
    return list(_jars(folder, listed))


def check(jar: Path, digest: str) -> None:
    """Raises: DevStackError if the file's SHA-256 is not `digest`."""
    actual = _sha256(jar)
    if actual != digest:
        raise DevStackError(
            f"jar {jar.name} is not the one in kafka_jars.sha256 (SHA-256 {actual[:16]}… instead of {digest[:16]}…); "
            f"look where it comes from, delete {jar.parent} and start again"
        )


async def _download(
    spawner: Spawner, folder: Path, listed: dict[str, str], *, log: Path, tell: Callable[[str], None], list_file: Path
) -> None:
    tell("downloading Apache Kafka (45 MB, once)")
    command: list[str | Path] = [sys.executable, "-m", "ragline.dev_stack.jars", folder, list_file]
    child = spawner.spawn("jars", command, log=log)
    try:
        ended = asyncio.ensure_future(child.exited())
        while not ended.done():
            await asyncio.wait([ended], timeout=0.5)
            n_present = sum(jar.is_file() for jar in _jars(folder, listed))
            tell(f"downloading Apache Kafka: {n_present} of {len(listed)} files, {_size_mb(folder):.0f} MB")
        if ended.result() != 0:
            raise DevStackError(child.tail(1) or "Kafka's jars could not be downloaded")
    finally:
        child.end_now()


def _unchanged_since_verified(folder: Path, listed: dict[str, str]) -> bool:
    try:
        return bool(json.loads((folder / _STAMP).read_text()) == _stamp(folder, listed))
    except (OSError, ValueError):
        return False


def _write_stamp(folder: Path, listed: dict[str, str]) -> None:
    partial = folder / f"{_STAMP}.partial"
    partial.write_text(json.dumps(_stamp(folder, listed)))
    partial.replace(folder / _STAMP)


def _stamp(folder: Path, listed: dict[str, str]) -> dict[str, list[object]]:
    stats = {jar: jar.stat() for jar in _jars(folder, listed)}
    digests = _jars(folder, listed)
    return {jar.name: [digests[jar], stat.st_size, stat.st_mtime_ns] for jar, stat in stats.items()}


def _jars(folder: Path, listed: dict[str, str]) -> dict[Path, str]:
    return {folder / Path(path).name: digest for path, digest in listed.items()}


def _size_mb(folder: Path) -> float:
    size_bytes = 0
    for jar in folder.rglob("*.jar"):
        with contextlib.suppress(OSError):
            size_bytes += jar.stat().st_size
    return size_bytes / 1e6


def download_into(folder: Path, list_file: Path) -> None:
    """Download the listed jars that `folder` lacks; each appears there whole and checked.

    Raises: DevStackError if one is not what is listed.
    """
    listed = read_list(list_file)
    missing = {path: digest for path, digest in listed.items() if not (folder / Path(path).name).is_file()}
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        context = _maven(Path(scratch))

        def fetch(path: str) -> None:
            *group, artifact, version, _ = path.split("/")
            jar = context.project(".".join(group), artifact).at_version(version).artifact().resolve()
            check(jar, missing[path])
            jar.replace(folder / jar.name)

        with ThreadPoolExecutor(max_workers=6) as pool:
            for _ in pool.map(fetch, missing):
                pass


def resolve_list() -> str:
    """The list for `COORDINATES` and all that they need, as their newest resolution gives it."""
    from jgo.parse import Endpoint

    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as scratch:
        context = _maven(Path(scratch))
        # raw: otherwise each coordinate also counts as a bill of materials, and log4j's chooses an older kafka-clients
        wanted = [replace(c, scope="compile", raw=True) for c in Endpoint.parse("+".join(COORDINATES)).coordinates]
        inputs, others = context.resolver.resolve([context.create_dependency(coordinate) for coordinate in wanted])
        artifacts = [d.artifact for d in (*inputs, *(d for d in others if d.scope in {"compile", "runtime"}))]
        jars = sorted(artifact.resolve() for artifact in artifacts)
        return "".join(f"{_sha256(jar)}  {jar.relative_to(scratch).as_posix()}\n" for jar in jars)


def _maven(repo_cache: Path) -> MavenContext:
    """The user's own mirrors (jgo's configuration) count as well as Maven Central."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    return MavenContext(repo_cache=repo_cache, remote_repos=repositories, timeout=30)


def _sha256(jar: Path) -> str:
    with jar.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Write the list anew (no arguments), or download under a lock that other starts wait for."""
    if len(sys.argv) == 1:
        LIST_FILE.write_text(resolve_list())
        return
    folder, list_file = Path(sys.argv[1]), Path(sys.argv[2])
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        try:
            download_into(folder, list_file)
        except DevStackError as error:
            sys.exit(str(error))
        except Exception as error:  # noqa: BLE001 - a process's border; whatever the resolver raises is one line here
            reason = str(error).splitlines() or [type(error).__name__]
            sys.exit(f"Kafka's jars cannot be downloaded ({reason[0][:300]}); check the network and start again")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
