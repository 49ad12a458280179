"""What only one place may do, so that there is one place to look when it goes wrong."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata

from tests.lint.tree import PACKAGES, Source, calls, imports, parsed, product

SETTINGS = "ragline/settings.py"
HANDS_ON_ITS_ENVIRONMENT = "ragline/dev_stack/environment.py"
LIBRARIES_READ_IT = "providers/"
OFFSETS = "storage/log/batch_runner.py"
FACTORY = "storage/log/subscribers.py"
DATABASE = "storage/postgres/"
ENDS = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK)\b")
WIRING = "ragline/wiring/"
CLIENTS = {
    "Database": {WIRING},
    "LogProducer": {WIRING},
    "LocalBlobStore": {WIRING},
    "S3BlobStore": {WIRING},
    "LanceVectorIndex": {WIRING},
    "OutboxPublisher": {WIRING},
    "Subscribers": {WIRING},
    "WordLlamaEmbedder": {"providers/catalog.py"},
    "AIOKafkaProducer": {"storage/log/producer.py"},
    "AIOKafkaConsumer": {"storage/log/"},
    "AIOKafkaAdminClient": {"storage/log/"},
    "connect_async": {"storage/vectors/lance.py"},
    "ClientSession": {"providers/", "ragline/client/connection.py", "ragline/doctor/"},
}
"""What opens connections, and the only places that make it."""


def test_the_environment_is_read_in_one_place() -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in product()
        if source.path not in {SETTINGS, HANDS_ON_ITS_ENVIRONMENT}
        for node in _environment(source)
    ]
    assert not found, f"settings come from {SETTINGS}, so that `ragline settings` shows all that counts: {found}"


def _environment(source: Source) -> Iterator[ast.expr]:
    """Uses of the environment. A provider may set a variable that a library has instead of a parameter."""
    allowed = {
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.slice, ast.Constant)
        and source.path.startswith(LIBRARIES_READ_IT)
    }
    for node in ast.walk(source.tree):
        match node:
            case ast.Attribute(attr="environ" | "environb" | "getenv" | "putenv") if node not in allowed:
                yield node
            case ast.Name(id="environ" | "getenv"):
                yield node


def test_subscribers_come_from_the_factory() -> None:
    found = [place for source in product() if source.path != FACTORY for place in _subscribing(source)]
    assert not found, (
        f"a subscriber's defaults lose records (acknowledge first, offset latest); {FACTORY} sets them right: {found}"
    )


def _subscribing(source: Source) -> list[str]:
    return [f"{source.path}:{line}" for name, line in calls(source) if name in {"subscriber", "KafkaBroker"}]


def test_transactions_end_in_the_unit_of_work() -> None:
    found = [place for source in product() for place in _committing(source)]
    assert not found, f"state, inbox and outbox are one transaction, which {DATABASE} commits as one: {found}"


def _committing(source: Source) -> list[str]:
    if source.path.startswith(DATABASE) or source.path == OFFSETS:
        return []
    sent = [
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ENDS.match(node.value)
    ]
    called = [line for name, line in calls(source) if name == "commit"]
    return [f"{source.path}:{line}" for line in sorted([*sent, *called])]


def test_clients_are_made_in_the_wiring() -> None:
    found = [place for source in product() for place in _connecting(source)]
    assert not found, (
        f"who needs a client is handed it, so that a test hands it another; {WIRING} makes them by the settings, and"
        f" one file a library its own: {found}"
    )


def _connecting(source: Source) -> list[str]:
    return [
        f"{source.path}:{line} {name}"
        for name, line in calls(source)
        if name in CLIENTS and not source.path.startswith(tuple(CLIENTS[name]))
    ]


def test_only_the_database_room_knows_the_driver() -> None:
    found = {
        source.path
        for source in product()
        if not source.path.startswith(DATABASE)
        for name, line in imports(source)
        if name.split(".")[0] == "asyncpg" and line not in _type_checking_lines(source)
    }
    assert not found, (
        f"asyncpg's errors mean retry or reject, which {DATABASE} decides; types of rows may be imported for the "
        f"checker: {found}"
    )


def _type_checking_lines(source: Source) -> set[int]:
    return {
        inner.lineno
        for node in source.tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }


def test_no_error_is_swallowed() -> None:
    found = [f"{source.path}:{node.lineno}" for source in product() for node in _silent_handlers(source)]
    assert not found, (
        "nothing fails silently: a handler of every error raises, logs, or hands the error on; a task that was "
        f"cancelled is gathered with return_exceptions=True: {found}"
    )


def _silent_handlers(source: Source) -> Iterator[ast.ExceptHandler | ast.Call]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _does_something(node):
            yield node
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            broad = [argument for argument in node.args if _is_broad(argument)]
            if broad:
                yield node


def _is_broad(type_: ast.expr | None) -> bool:
    if isinstance(type_, ast.Tuple):
        return any(_is_broad(one) for one in type_.elts)
    return type_ is None or ast.unparse(type_) in {"Exception", "BaseException"}


def _does_something(handler: ast.ExceptHandler) -> bool:
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and node.id == handler.name):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("logger.", "logging.")):
            return True
    return False


def test_no_installed_package_owns_our_names() -> None:
    found = [
        f"{distribution.name} owns {first}"
        for distribution in metadata.distributions()
        if distribution.name != "ragline"
        for first in sorted({file.parts[0].removesuffix(".py") for file in distribution.files or ()})
        if first in PACKAGES
    ]
    assert not found, f"one of two packages of a name is not importable; drop the dependency: {found}"


WALL_CLOCK = {
    "producers/edge/app.py": "the parameter by which the edge's clock enters",
    "producers/edge/auth.py": "keys expire at a time of the calendar",
    "producers/edge/feed.py": "cursors of 31 days, to which an hour is nothing",
    "producers/edge/messages.py": "what is accepted and not applied yet has no time of its own",
    "producers/edge/stream_hub.py": "where a fresh edge begins to read; its rings say which time they hold",
    "producers/edge/uploads.py": "what is accepted and not applied yet has no time of its own",
    "storage/log/tail.py": "where a fresh edge begins to read; its rings say which time they hold",
    "consumers/completions/chunk_writer.py": "ce_time, which informs",
    "consumers/completions/settle.py": "ce_time, which informs",
    "consumers/documents/checkpoints.py": "ce_time, which informs",
    "consumers/documents/overdue.py": "ce_time, which informs",
    "consumers/index/writer.py": "ce_time, which informs",
    "consumers/relay/lags.py": "the age of what waits, which is only watched",
    "schemas/envelope.py": "ce_time, which informs",
    "storage/log/dead_letters.py": "when a record died, which informs",
    "providers/failures.py": "Retry-After as a date, of a server that does not say its own",
    "consumers/documents/downloads.py": "files of a day ago",
    "storage/blobs/local.py": "files of a day ago",
    "ragline/cli/dlq.py": "--since, as the person at the terminal counts",
    "ragline/doctor/findings.py": "the clock that is compared with the servers'",
}


def test_nothing_that_counts_depends_on_a_process_s_clock() -> None:
    found = {source.path for source in product() if any(_wall_clock(node) for node in ast.walk(source.tree))}
    assert found == WALL_CLOCK.keys(), (
        "a process's clock may be wrong: leases and `created_at` go by PostgreSQL's (`work.now()`), times in the log by"
        f" the broker's, spans are monotonic; say why it does not matter here: {sorted(found ^ WALL_CLOCK.keys())}"
    )


def _wall_clock(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {"time.time", "datetime.now", "datetime.utcnow"}


def test_the_lints_find_what_they_look_for() -> None:
    bad = parsed("consumers/bad.py", _BAD)
    assert len(list(_environment(bad))) == 2
    assert _subscribing(bad) == ["consumers/bad.py:6"]
    assert _committing(bad) == ["consumers/bad.py:7", "consumers/bad.py:15"]
    assert _connecting(bad) == ["consumers/bad.py:8 Database"]
    assert [node.lineno for node in _silent_handlers(bad)] == [11, 13]
    assert any(_wall_clock(node) for node in ast.walk(bad.tree))
    good = parsed("ragline/wiring/good.py", "database = Database(dsn)\ntry:\n    go()\nexcept OSError:\n    pass\n")
    assert (_connecting(good), _committing(good), list(_silent_handlers(good))) == ([], [], [])


_BAD = """\
import os, contextlib, time
from os import getenv
at = time.time()
home = os.environ["HOME"]
user = getenv("USER")
broker.subscriber("topic")
await_ = connection.commit()
database = Database("postgresql:")
try:
    go()
except Exception:
    pass
with contextlib.suppress(BaseException):
    go()
work.execute("COMMIT")
"""
