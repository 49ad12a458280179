"""Every setting has its value, its source, and no secret in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragline.settings import Settings, load_settings, setting_sources
from ragline.settings_report import EffectiveSetting, report

TOML = """
log_level = "debug"
[edge]
port = 9000
[[models]]
name = "fast"
model = "openai/x"
api_key = "a literal secret"
[[models]]
name = "slow"
model = "openai/y"
api_key = "env:NAME_OF_A_VARIABLE"
[embedding]
api_key = "another literal secret"
"""


def _report(monkeypatch: pytest.MonkeyPatch, folder: Path, toml: str = "", **env: str) -> dict[str, EffectiveSetting]:
    monkeypatch.chdir(folder)
    if toml:
        (folder / "ragline.toml").write_text(toml)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return {row.name: row for row in report(load_settings(), setting_sources())}


def test_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = _report(monkeypatch, tmp_path, TOML, RAGLINE_EDGE__HOST="0.0.0.0", RAGLINE_LOG_LEVEL="error")
    assert rows["log_level"] == EffectiveSetting("log_level", "error", "environment", "RAGLINE_LOG_LEVEL")
    assert rows["edge.host"] == EffectiveSetting("edge.host", "0.0.0.0", "environment", "RAGLINE_EDGE__HOST")
    assert rows["edge.port"] == EffectiveSetting("edge.port", 9000, "ragline.toml", "ragline.toml")
    assert rows["edge.wait_s"] == EffectiveSetting("edge.wait_s", 5.0, "default", "")
    assert rows["models.0.name"].source == "ragline.toml"
    assert rows["models.0.prefill"].source == "default"


def test_models_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = _report(monkeypatch, tmp_path, RAGLINE_MODELS='[{"name": "a", "model": "openai/b"}]')
    assert rows["models.0.name"] == EffectiveSetting("models.0.name", "a", "environment", "RAGLINE_MODELS")


def test_what_a_tenant_has_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = _report(monkeypatch, tmp_path, "[passages.tenants.acme]\ntarget_tokens = 100\n")
    name = "passages.tenants.acme.target_tokens"
    assert (rows[name].value, rows[name].source) == (100, "ragline.toml")
    assert rows["passages.target_tokens"].source == "default"


def test_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dsn = "postgresql://me:hunter2@db:5432/ragline"
    rows = _report(monkeypatch, tmp_path, TOML, RAGLINE_POSTGRES_DSN=dsn, RAGLINE_CLIENT__API_KEY="k" * 64)
    assert rows["postgres_dsn"].value == "postgresql://me:********@db:5432/ragline"
    assert rows["models.0.api_key"].value == "********"
    assert rows["models.1.api_key"].value == "env:NAME_OF_A_VARIABLE"
    assert rows["client.api_key"].value == "********"
    assert rows["embedding.api_key"].value == "********"
    shown = repr(rows)
    assert "hunter2" not in shown
    assert "literal secret" not in shown
    assert "kkkk" not in shown


def test_a_password_in_another_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dsn = "postgresql://db/x?password=hunter2"
    assert _report(monkeypatch, tmp_path, RAGLINE_POSTGRES_DSN=dsn)["postgres_dsn"].value == "********"


def test_a_password_in_any_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "https://me:hunter2@gateway/v1"
    models = f'[{{"name": "a", "model": "openai/x", "api_base": "{url}"}}]'
    rows = _report(
        monkeypatch, tmp_path, RAGLINE_MODELS=models, RAGLINE_S3_ENDPOINT=url, RAGLINE_TELEMETRY__OTLP_ENDPOINT=url
    )
    for name in ("models.0.api_base", "s3_endpoint", "telemetry.otlp_endpoint"):
        assert rows[name].value == "https://********@gateway/v1"


def test_every_setting_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = _report(monkeypatch, tmp_path)
    assert {name.split(".")[0] for name in rows} == set(Settings.model_fields)
    assert {row.source for row in rows.values()} == {"default"}
