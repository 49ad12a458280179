"""The file for a bug report: no secret and nothing that anybody wrote leaves in it, wherever it stood."""

from __future__ import annotations

import json
import socket
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragline.cli.main import app
from ragline.doctor.logs import shown
from ragline.doctor.redaction import Redactor

SECRETS = {
    "model": "sk-live-PLANTEDmodelkey0001",
    "from_env": "plantedFromEnvironment-2",
    "dsn": "plantedDsn%21Password3",
    "dsn_unquoted": "plantedDsn!Password3",
    "home_postgres": "plantedhomepostgres4",
    "home_admin": "planted-home-admin-5",
    "home_key": "ab" * 32,
    "aws": "plantedAwsSecret+/6plantedAwsSecret",
    "rerank": "plantedRerankKey7",
    "basic": "plantedUrlPassword8",
    "bearer": "plantedbearer9.token-x",
    "foreign": "plantedForeignPassword10",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJwbGFudGVkIjoxMX0.c2lnbmF0dXJl",
    "query": "plantedquery12",
    "sentry": "plantedSentryKey13",
}
CONTENT = ["the gardener buried the ring", "Kündigung Müller.pdf", "what does the contract say", "Where is the ring?"]

TOML = f"""
telemetry.sentry_dsn = "https://{SECRETS["sentry"]}@127.0.0.1:9/1"
rerank_model = "r"
rerank_api_base = "http://user:{SECRETS["basic"]}@127.0.0.1:9/v1?token={SECRETS["query"]}"
rerank_api_key = "{SECRETS["rerank"]}"
[[models]]
name = "fast"
model = "openai/fast"
api_base = "http://127.0.0.1:9/v1"
api_key = "{SECRETS["model"]}"
[[models]]
name = "other"
model = "openai/other"
api_key = "env:OTHER_MODEL"
"""
AT = "2026-11-21 15:00:00,001"
WORKER_LOG = f"""{AT} WARNING storage.log.batch_runner transcript: retry: PostgreSQL: ConnectionRefusedError
{AT} ERROR ragline key {SECRETS["model"]} and {SECRETS["home_key"]} were used
{AT} ERROR ragline GET http://h/x?q={SECRETS["query"]} Authorization: Bearer {SECRETS["bearer"]}
{AT} ERROR ragline postgresql://a:{SECRETS["foreign"]}@db/x {SECRETS["jwt"]}
{AT} ERROR ragline password={SECRETS["foreign"]}
{AT} WARNING consumers.documents.parse.sandbox parser ended with status 1 on '{CONTENT[1]}': ''
{AT} ERROR consumers.completions.runner completion 0198 ended with a bug
Traceback (most recent call last):
  File "/srv/consumers/completions/attempt.py", line 100, in run
    raise ValueError(text)
ValueError: {CONTENT[0]}
  Input should be a string [type=string_type, input_value='{CONTENT[2]}', input_type=str]
pydantic_core._pydantic_core.ValidationError: 1 validation error for PostMessage
{CONTENT[3]}
{AT} WARNING x don't say "{CONTENT[0]}" or it's '{CONTENT[3]}'
"""
JSON_LOG = json.dumps(
    {
        "time": "2026-11-21T15:00:00.001",
        "level": "error",
        "logger": "ragline",
        "message": f"request 7 failed on '{CONTENT[0]}' with {SECRETS['model']}",
        "error": {"type": "ValueError", "told": CONTENT[1], "frames": ["/srv/ragline/cli/main.py:12 main"]},
        "extra": CONTENT[2],
    },
    ensure_ascii=False,
)
POSTGRES_LOG = f"""2026-11-21 15:00:00.008 UTC [7] ERROR:  duplicate key value violates "users_email_key"
2026-11-21 15:00:00.008 UTC [7] DETAIL:  Key (email)=({CONTENT[2]}) already exists.
2026-11-21 15:00:00.008 UTC [7] STATEMENT:  INSERT INTO messages VALUES ('{CONTENT[0]}',
\t'{CONTENT[3]}')
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a home, where a secret or a text stands in every place where one could."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", f"postgresql://ragline:{SECRETS['dsn']}@{nobody}/ragline")
    monkeypatch.setenv("RAGLINE_KAFKA_BOOTSTRAP", nobody)
    monkeypatch.setenv("OTHER_MODEL", SECRETS["from_env"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["aws"])
    (tmp_path / "ragline.toml").write_text(TOML)
    home = tmp_path / ".ragline"
    (home / "logs").mkdir(parents=True)
    held = {"postgres_password": "home_postgres", "admin_password": "home_admin", "api_key": "home_key"}
    kept = {name: SECRETS[secret] for name, secret in held.items()}
    (home / "secrets.json").write_text(json.dumps(kept | {"admin_email": "planted@example.com"}))
    everything = " ".join([*SECRETS.values(), "planted@example.com"])
    stamped = f"2026-11-21 15:00:00,009 ERROR ragline {everything.replace(SECRETS['foreign'], '')}\n"
    (home / "logs" / "worker-1.log").write_text(WORKER_LOG + stamped.replace(SECRETS["bearer"], ""))
    (home / "logs" / "postgres.log").write_text(POSTGRES_LOG)
    (home / "logs" / "edge-1.log").write_text(f"{JSON_LOG}\n{JSON_LOG[:-5]}\n")
    return tmp_path


def test_a_bundle_holds_no_secret_and_no_content(folder: Path) -> None:
    ended = CliRunner().invoke(app, ["doctor", "--no-models", "--bundle", "report.tar.gz"])
    assert ended.exit_code == 1, "two servers are away"
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    path = folder / "report.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        files = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}
    logs = {f"logs/{name}.log" for name in ("edge-1", "postgres", "worker-1")}
    names = {"doctor.json", "settings.json", "topics.json", "versions.json", *logs}
    assert texts.keys() == {f"ragline-doctor/{name}" for name in names}
    everywhere = "".join(texts.values()) + ended.output
    escaped = everywhere + everywhere.encode().decode("unicode_escape", errors="replace")
    for planted in (*SECRETS.values(), *CONTENT, "planted@example.com"):
        assert planted not in everywhere, planted
        assert planted not in escaped, planted
    checks = {one["name"]: one for one in json.loads(texts["ragline-doctor/doctor.json"])}
    assert (checks["kafka"]["status"], checks["blobs.race"]["status"]) == ("wrong", "ok")
    assert json.loads(texts["ragline-doctor/settings.json"])["models.0.name"]["value"] == "fast"
    assert "aiokafka" in texts["ragline-doctor/versions.json"]


def test_what_a_log_may_show() -> None:
    assert [json.loads(line) for line in shown([JSON_LOG], Redactor(SECRETS.values()))] == [
        {
            "time": "2026-11-21T15:00:00.001",
            "level": "error",
            "logger": "ragline",
            "message": "request 7 failed on … with ********",
            "error": {"type": "ValueError", "frames": ["/srv/ragline/cli/main.py:12 main"]},
        }
    ]
    lines = list(shown((WORKER_LOG + POSTGRES_LOG).splitlines(), Redactor(SECRETS.values())))
    text = "\n".join(lines)
    assert lines[0].endswith("transcript: retry: PostgreSQL: ConnectionRefusedError"), "what helps is kept"
    assert "ended with a bug" in text
    assert '  File "/srv/consumers/completions/attempt.py", line 100, in run' in lines
    assert "ValueError" in lines
    assert "pydantic_core._pydantic_core.ValidationError" in lines
    assert "parser ended with status 1 on …" in text
    assert "duplicate key value violates …" in text
    assert lines[-1] == "[3 lines left out]"


def test_a_file_that_cannot_be_written(folder: Path) -> None:
    ended = CliRunner().invoke(app, ["doctor", "--no-models", "--bundle", "no/such/folder/report.tar.gz"])
    assert "no/such/folder/report.tar.gz cannot be written: No such file or directory" in str(ended.exception)
    assert not list(folder.glob("**/report.tar.gz"))


@pytest.mark.parametrize(
    "text",
    [
        "Ragline runs at http://127.0.0.1:8080/health", "postgresql://ragline@127.0.0.1:5432/ragline",
        "Set RAGLINE_POSTGRES_DSN to its address.", "topic chat.events.v1 has 12 partitions",
        "completion 0198c0de-0000-7000-8000-000000000000 attempt 2",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor({"x", "", "abcd"}).text(text) == text
