"""A home belongs to one process and keeps its secrets and ports."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from ragline.dev_stack.errors import DevStackError
from ragline.dev_stack.home import free_port, is_free, load_ports, load_secrets, locked, write_private


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    first = load_secrets(tmp_path)
    assert load_secrets(tmp_path) == first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(first.api_key) == 64
    assert int(first.api_key, 16) > 0


def test_a_missing_secret_is_added_and_the_others_stay(tmp_path: Path) -> None:
    first = load_secrets(tmp_path)
    (tmp_path / "secrets.json").write_text(json.dumps({"api_key": first.api_key}))
    second = load_secrets(tmp_path)
    assert second.api_key == first.api_key
    assert second.postgres_password != first.postgres_password
    assert load_secrets(tmp_path) == second


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_unreadable_secrets_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(DevStackError, match=r"secrets\.json cannot be read \(.*\); mend or delete it$"):
        load_secrets(tmp_path)


def test_ports_are_kept_until_taken(tmp_path: Path) -> None:
    ports = load_ports(tmp_path, ("kafka", "postgres"))
    assert len(set(ports.values())) == 2
    assert load_ports(tmp_path, ("kafka", "postgres")) == ports
    with socket.create_server(("127.0.0.1", ports["kafka"])):
        changed = load_ports(tmp_path, ("kafka", "postgres"), patience_s=0.1)
    assert changed["kafka"] != ports["kafka"]
    assert changed["postgres"] == ports["postgres"]
    assert load_ports(tmp_path, ("kafka",)) == {"kafka": changed["kafka"]}


def test_one_name_does_not_lose_another_ones_port(tmp_path: Path) -> None:
    kafka = load_ports(tmp_path, ("kafka",))
    load_ports(tmp_path, ("postgres",))
    assert load_ports(tmp_path, ("kafka",)) == kafka


def test_a_listened_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
    assert is_free(free_port(taken=set()))


def test_a_home_has_one_owner(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "home"),
        pytest.raises(DevStackError, match="is in use by process"),
        locked(tmp_path / "home"),
    ):
        pytest.fail("locked twice")
    with locked(tmp_path / "home"):
        pass


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevStackError, match="cannot be used"), locked(tmp_path / "file" / "home"):
        pytest.fail("locked a file")


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
