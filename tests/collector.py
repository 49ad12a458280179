"""A collector of the tests' own: takes OTLP/HTTP traces and Sentry's envelopes, and decodes them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class SeenSpan:
    """One exported span."""

    service: str
    name: str
    trace_id: str
    id: str
    parent_id: str
    is_error: bool
    attributes: dict[str, Any]

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.id}-01"


@dataclass
class Collector:
    """What was received. `bodies` is all of it, unpacked, for searching."""

    port: int = 0
    spans: list[SeenSpan] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.port}/1"

    def of_trace(self, trace_id: str) -> dict[str, SeenSpan]:
        """The spans of a trace, by name."""
        with self.lock:
            return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def take(self, path: str, body: bytes) -> None:
        with self.lock:
            self.bodies.append(body)
            if path == "/v1/traces":
                self.spans += _spans(body)
            elif path == "/api/1/envelope/":
                lines = body.split(b"\n")
                self.reports += [json.loads(lines[n + 1]) for n in range(1, len(lines) - 1, 2) if lines[n]]


def _spans(body: bytes) -> Iterator[SeenSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                values = {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}
                yield SeenSpan(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.code == 2,
                    values,
                )


@contextmanager
def collecting_process() -> Iterator[str]:
    """The address of a collector in a process of its own, which keeps nothing."""
    process = subprocess.Popen([sys.executable, "-m", "tests.collector"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def collecting(collector: Collector | None = None) -> Iterator[Collector]:
    """A running collector on a port of the loopback."""
    received = collector or Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.take(self.path.partition("?")[0], body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Forgetful(Collector):
    def take(self, path: str, body: bytes) -> None:
        """Keeps nothing."""


if __name__ == "__main__":
    with collecting(_Forgetful()) as forgetful:
        print(forgetful.url, flush=True)
        threading.Event().wait()
