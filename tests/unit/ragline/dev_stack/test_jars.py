"""Only the listed jars are used, and once verified they need no network."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from ragline.dev_stack import jars
from ragline.dev_stack.errors import DevStackError
from ragline.dev_stack.spawning import Spawner


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of two jars, both in the cache."""
    list_file = tmp_path / "list.sha256"
    contents = {"org/a/1/a-1.jar": b"a", "org/b/2/b-2.jar": b"b"}
    list_file.write_text("".join(f"{hashlib.sha256(c).hexdigest()}  {p}\n" for p, c in contents.items()))
    folder = jars.jar_folder(tmp_path, list_file)
    folder.mkdir()
    for path, content in contents.items():
        (folder / Path(path).name).write_bytes(content)
    return list_file


async def _provide(cache: Path, list_file: Path) -> list[str]:
    def tell(_: str) -> None:
        """Nobody listens."""

    found = await jars.provide(Spawner(), cache, log=cache / "log", tell=tell, list_file=list_file)
    return [jar.name for jar in found]


def test_the_committed_list_names_one_kafka() -> None:
    listed = jars.read_list()
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in listed.values())
    names = {Path(path).name for path in listed}
    assert len(names) == len(listed)
    kafka = {name for name in names if name.startswith("kafka")}
    assert "kafka-clients-4.1.1.jar" in kafka
    assert all(name.endswith("-4.1.1.jar") for name in kafka)
    assert {"log4j-core-2.25.2.jar", "log4j-slf4j-impl-2.25.2.jar", "slf4j-api-1.7.36.jar"} <= names


async def test_verified_jars_are_used_in_the_lists_order(tmp_path: Path, listed: Path) -> None:
    assert await _provide(tmp_path, listed) == ["a-1.jar", "b-2.jar"]
    (jars.jar_folder(tmp_path, listed) / "stranger.jar").touch()
    assert await _provide(tmp_path, listed) == ["a-1.jar", "b-2.jar"]


async def test_a_changed_jar_stops_the_start(tmp_path: Path, listed: Path) -> None:
    await _provide(tmp_path, listed)
    jar = jars.jar_folder(tmp_path, listed) / "b-2.jar"
    jar.write_bytes(b"x")
    with pytest.raises(DevStackError, match=r"^jar b-2\.jar is not the one in kafka_jars\.sha256 .*start again$"):
        await _provide(tmp_path, listed)
    jar.write_bytes(b"b")
    assert await _provide(tmp_path, listed) == ["a-1.jar", "b-2.jar"]


def test_a_list_with_another_digest_has_a_folder_of_its_own(tmp_path: Path, listed: Path) -> None:
    before = jars.jar_folder(tmp_path, listed)
    listed.write_text(listed.read_text().replace("a-1", "a-3"))
    assert jars.jar_folder(tmp_path, listed) != before
