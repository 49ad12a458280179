"""One conversation and one upload, watched from outside: one trace each, and no word of them anywhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from ragline.dev_stack.home import free_port
from tests.collector import Collector, SeenSpan, collecting
from tests.provider_server.process import provider_process
from tests.stack import DevStack, eventually, running

pytestmark = pytest.mark.timeout(240)

QUESTION, ANSWER, DOCUMENT, FILE_NAME = "quokkaquestion", "narwhalanswer", "zebradocument", "okapiname"
BROKEN, PROVIDER_KEY, PROVIDER_ERROR = "axolotlbroken", "kestrelkey", "told to fail"
N_TOKENS = 300
POST_MESSAGE = "POST /api/v1/sessions/{session_id}/messages"


@dataclass
class Talked:
    """What was done, and under which traces."""

    stack: DevStack
    collector: Collector
    provider_url: str
    asked: str = ""
    uploaded: str = ""
    failed: str = ""
    texts: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talked]:
    with collecting() as collector, provider_process(text=" ".join([ANSWER] * N_TOKENS)) as url:
        models = [
            {"name": name, "model": f"openai/{model}", "api_base": url, "api_key": PROVIDER_KEY}
            for name, model in (("fast", "test"), ("broken", "test?error_status=400"))
        ]
        env = {
            "RAGLINE_MODELS": json.dumps(models),
            "RAGLINE_LOG_FORMAT": "json",
            "RAGLINE_TELEMETRY__OTLP_ENDPOINT": collector.url,
            "RAGLINE_TELEMETRY__TRACE_RATIO": "0",
            "RAGLINE_TELEMETRY__SENTRY_DSN": collector.dsn,
            "RAGLINE_TELEMETRY__METRICS_PORT": str(free_port(taken=set())),
        }
        with running(tmp_path_factory.mktemp("telemetry"), env=env) as stack:
            talked = Talked(stack, collector, url)
            _talk(talked)
            yield talked


def _talk(talked: Talked) -> None:
    stack = talked.stack
    with httpx.Client(base_url=stack.base_url, headers=stack.headers, timeout=30) as client:

        def traced(method: str, path: str, **body: Any) -> tuple[str, Any]:
            trace_id = secrets.token_hex(16)
            given = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
            answer = client.request(method, path, headers=given, **body)
            assert answer.status_code in {200, 201, 202}, answer.text
            assert answer.headers["traceparent"][:35] == f"00-{trace_id}"
            return trace_id, answer.json()

        text = {"text": f"# Animals\n\nThe {DOCUMENT} drinks in the evening.\n", "name": f"{FILE_NAME}.md"}
        talked.uploaded, document = traced("POST", "/api/v1/documents", json=text)
        _, broken = traced(
            "POST", "/api/v1/documents", files={"file": (f"{FILE_NAME}.pdf", f"%PDF-1.7 {BROKEN}".encode())}
        )
        for id_, status in ((document["id"], "indexed"), (broken["id"], "failed")):
            eventually(
                lambda id_=id_, status=status: client.get(f"/api/v1/documents/{id_}").json()["status"] == status,  # type: ignore[misc]
                within_s=60,
                why=stack.log,
            )
        session = client.post("/api/v1/sessions").json()["id"]
        path = f"/api/v1/sessions/{session}/messages"
        talked.asked, posted = traced("POST", path, json={"content": f"Where does the {QUESTION} drink?"})
        talked.texts.append(client.get(posted["completion"]["stream_url"]).text)
        talked.failed, posted = traced("POST", path, json={"content": QUESTION, "model": "broken"})
        talked.texts.append(client.get(posted["completion"]["stream_url"]).text)


def _trace(talked: Talked, trace_id: str, *names: str) -> dict[str, SeenSpan]:
    def all_there() -> dict[str, SeenSpan] | None:
        spans = talked.collector.of_trace(trace_id)
        return spans if spans.keys() >= set(names) else None

    found: dict[str, SeenSpan] = eventually(
        all_there, within_s=30, why=lambda: f"{sorted(talked.collector.of_trace(trace_id))}\n{talked.stack.log()}"
    )
    return found


def test_a_message_is_one_trace_from_the_edge_to_the_provider(talked: Talked) -> None:
    spans = _trace(talked, talked.asked, POST_MESSAGE, "transcript process", "completions attempt", "chat fast")
    edge, transcript = spans[POST_MESSAGE], spans["transcript process"]
    attempt, call = spans["completions attempt"], spans["chat fast"]
    assert [span.service for span in (edge, transcript, attempt, call)] == ["ragline-edge", *["ragline-worker"] * 3]
    assert edge.parent_id == "00f067aa0ba902b7"
    assert [transcript.parent_id, attempt.parent_id, call.parent_id] == [edge.id, transcript.id, attempt.id]
    assert edge.attributes["http.response.status_code"] == 202
    assert call.attributes["gen_ai.usage.output_tokens"] == N_TOKENS
    stats = httpx.get(f"{talked.provider_url.removesuffix('/v1')}/stats").json()
    assert stats["traceparents"][0] == call.traceparent
    assert talked.texts[0].count(ANSWER) == N_TOKENS
    with talked.collector.lock:
        n_spans = sum(span.trace_id == talked.asked for span in talked.collector.spans)
    assert n_spans < 12, "nothing is traced by chunk"


def test_a_document_is_one_trace_from_the_upload_to_the_index(talked: Talked) -> None:
    names = ("documents process", "documents learn", "documents parse", "documents embed", "index process")
    spans = _trace(talked, talked.uploaded, "POST /api/v1/documents", *names)
    upload, process, learn, parse, embed, index = (spans[name] for name in ("POST /api/v1/documents", *names))
    assert [process.parent_id, learn.parent_id] == [upload.id, process.id]
    assert [parse.parent_id, embed.parent_id, index.parent_id] == [learn.id, learn.id, embed.id]


def test_a_failed_call_is_an_error_in_its_trace_and_its_log_line_names_the_trace(talked: Talked) -> None:
    spans = _trace(talked, talked.failed, "chat broken")
    call = spans["chat broken"]
    assert (call.is_error, call.attributes["error.type"]) == (True, "bad_request")
    lines = [line for line in _log_lines(talked.stack) if line.get("trace_id") == talked.failed]
    assert any(line["level"] == "warning" and "bad_request" in line["message"] for line in lines), lines


def test_what_was_not_asked_to_be_traced_is_not(talked: Talked) -> None:
    with talked.collector.lock:
        assert {span.name for span in talked.collector.spans}.isdisjoint({"POST /api/v1/sessions"})


def _log_lines(stack: DevStack) -> list[dict[str, Any]]:
    logs = [log for log in (stack.home / "logs").glob("*.log") if log.name.startswith(("edge", "worker", "relay"))]
    return [json.loads(line) for log in logs for line in log.read_text().splitlines() if line]


def test_no_content_is_in_logs_metrics_spans_or_reports(talked: Talked) -> None:
    stack = talked.stack
    _trace(talked, talked.failed, "chat broken")
    pages = {
        f"{process['role']} {process['url']}": httpx.get(f"{process['url']}/metrics").text
        for process in stack.report()["processes"]
        if "url" in process
    }
    assert {page.partition(" ")[0] for page in pages} == {"edge", "worker", "relay"}
    logs = {log.name: log.read_text(errors="replace") for log in (stack.home / "logs").glob("*.log")}
    with talked.collector.lock:
        seen = {**pages, **logs, "spans and reports": repr(talked.collector.bodies)}
    api_key = str(stack.report()["api_key"])
    words = (QUESTION, ANSWER, DOCUMENT, FILE_NAME, BROKEN, PROVIDER_KEY, PROVIDER_ERROR, api_key)
    found = [f"{word} in {where}" for where, text in seen.items() for word in words if word in text]
    assert not found
    for name in ("llm_attempts_total", "llm_first_token_seconds_count", "ingest_documents_total"):
        assert any(f"\n{name}{{" in page for page in pages.values()), name
