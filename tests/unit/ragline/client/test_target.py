"""Which server is asked, and who gets whose key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragline.client.errors import UnreachableError, WrongUseError
from ragline.client.target import DEFAULT_URL, Target, find_target
from ragline.settings import Settings

KEY, OTHER = "a" * 64, "b" * 64
FIRST, SECOND = "http://127.0.0.1:8080", "http://127.0.0.1:8081"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings(home=tmp_path)


@pytest.fixture
def running(tmp_path: Path) -> None:
    report: dict[str, Any] = {
        "base_url": FIRST,
        "api_key": KEY,
        "kafka_bootstrap": "127.0.0.1:1",
        "postgres_dsn": "postgresql://x",
        "processes": [
            {"role": "edge", "pid": 1, "url": FIRST},
            {"role": "edge", "pid": 2, "url": SECOND},
            {"role": "worker", "pid": 3},
        ],
    }
    (tmp_path / "ready.json").write_text(json.dumps(report))


@pytest.mark.usefixtures("running")
def test_the_stack_of_the_home_with_all_its_edges(settings: Settings) -> None:
    assert find_target(settings) == Target((FIRST, SECOND), KEY)


@pytest.mark.usefixtures("running")
def test_the_command_line_wins(settings: Settings) -> None:
    assert find_target(settings, urls=(SECOND + "/",)) == Target((SECOND,), KEY)
    assert find_target(settings, api_key=OTHER) == Target((FIRST, SECOND), OTHER)


@pytest.mark.usefixtures("running")
def test_the_homes_key_goes_nowhere_else(settings: Settings) -> None:
    with pytest.raises(UnreachableError, match=r"^no API key for http://elsewhere; give --api-key"):
        find_target(settings, urls=("http://elsewhere", FIRST))


@pytest.mark.usefixtures("running")
def test_settings_win_over_the_home(tmp_path: Path) -> None:
    chosen = Settings.model_validate({"home": tmp_path, "client": {"url": "http://there:1", "api_key": OTHER}})
    assert find_target(chosen) == Target(("http://there:1",), OTHER)


def test_nothing_runs(settings: Settings) -> None:
    with pytest.raises(UnreachableError, match=r"^no Ragline runs in .*; start `make dev`"):
        find_target(settings)
    assert find_target(settings, api_key=KEY) == Target((DEFAULT_URL,), KEY)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"base_url": 1}'])
def test_a_ready_file_that_is_none_is_no_stack(settings: Settings, tmp_path: Path, content: str) -> None:
    (tmp_path / "ready.json").write_text(content)
    with pytest.raises(UnreachableError):
        find_target(settings)


@pytest.mark.parametrize("url", ["localhost:8080", "http://", "ftp://x", ""])
def test_an_address_that_is_none(settings: Settings, url: str) -> None:
    with pytest.raises(WrongUseError, match="is no server address"):
        find_target(settings, urls=(url,), api_key=KEY)


def test_a_key_that_no_header_can_carry(settings: Settings) -> None:
    with pytest.raises(WrongUseError, match="API key holds characters"):
        find_target(settings, urls=(FIRST,), api_key="a\nb")
