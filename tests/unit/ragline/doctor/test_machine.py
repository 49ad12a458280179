"""What is found on this machine without asking anybody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ragline.doctor.disk import free_space
from ragline.doctor.findings import Finding, Group, Patient, examine
from ragline.doctor.machine import machine
from ragline.settings import ModelSettings, Settings, load_settings


def found(settings: Settings) -> dict[str, Finding]:
    return {one.name: one for one in asyncio.run(examine(Patient(settings), [Group("machine", machine, "")]))}


def test_all_is_well(tmp_path: Path) -> None:
    findings = found(Settings(home=tmp_path))
    assert findings.keys() == {"versions", "open_files", "secret_files", "settings"}
    assert {findings[name].status for name in ("versions", "secret_files", "settings")} == {"ok"}
    for library in ("ragline", "python", "aiokafka", "lancedb"):
        assert f"{library} " in findings["versions"].found


def test_secrets_that_others_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toml, secrets = tmp_path / "ragline.toml", tmp_path / "secrets.json"
    toml.write_text('[[models]]\nname = "a"\nmodel = "openai/a"\napi_key = "env:A_KEY"\n')
    secrets.write_text("{}")
    for path, mode in ((toml, 0o644), (secrets, 0o600)):
        path.chmod(mode)
    assert found(load_settings(home=tmp_path))["secret_files"].status == "ok", "the name of a variable is no secret"
    toml.write_text(toml.read_text().replace("env:A_KEY", "sk-literal"))
    finding = found(load_settings(home=tmp_path))["secret_files"]
    assert (finding.status, finding.remedy) == ("wrong", "Run `chmod 600 ragline.toml`.")
    toml.chmod(0o600)
    secrets.chmod(0o640)
    finding = found(load_settings(home=tmp_path))["secret_files"]
    assert (finding.status, finding.remedy) == ("wrong", f"Run `chmod 600 {secrets}`.")


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"worker": {"checkpoint_s": 3.0}}, "wrong", "RAGLINE_WORKER__CHECKPOINT_S"),
        ({"models": [{"name": "a", "model": "b", "max_output_tokens": 8192}]}, "wrong", "models.0.context_tokens"),
        ({"blobs": "s3://b/x"}, "warning", "RAGLINE_VECTORS"),
        ({"vectors": "s3://b/x"}, "warning", "RAGLINE_BLOBS"),
        ({"s3_endpoint": "http://s3"}, "warning", "RAGLINE_BLOBS"),
        ({"s3_public_endpoint": "http://s3"}, "warning", "RAGLINE_S3_PUBLIC_ENDPOINT"),
    ],
)
def test_settings_that_contradict(tmp_path: Path, given: dict[str, Any], status: str, says: str) -> None:
    finding = found(Settings.model_validate({"home": tmp_path, **given}))["settings"]
    assert finding.status == status
    assert says in finding.remedy


def test_more_streams_than_files(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "edge": {"max_streams": 10**9}})
    finding = found(settings)["open_files"]
    assert finding.status == "warning" or finding.found.startswith("any number")


def test_free_space(tmp_path: Path) -> None:
    absent = tmp_path / "not" / "yet"
    assert free_space("disk.home", absent, full_bytes=0, low_bytes=0).status == "ok"
    assert free_space("disk.home", absent, full_bytes=0, low_bytes=1 << 60).status == "warning"
    wrong = free_space("disk.home", absent, full_bytes=1 << 60, low_bytes=1 << 60)
    assert (wrong.status, "Free some space" in wrong.remedy) == ("wrong", True)


def test_a_bug_in_one_check_leaves_the_others(tmp_path: Path) -> None:
    async def broken(_: Patient) -> Any:
        yield Finding("first", "ok", "")
        raise KeyError("nothing")

    settings = Settings(home=tmp_path, models=(ModelSettings(name="a", model="b", api_key=SecretStr("x")),))
    groups = [Group("broken", broken, "say so"), Group("machine", machine, "")]
    first, second, *rest = asyncio.run(examine(Patient(settings), groups))
    assert first == Finding("first", "ok", "")
    assert second == Finding("broken", "wrong", "KeyError: 'nothing'", "say so")
    assert len(rest) == 4
