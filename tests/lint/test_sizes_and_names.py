"""What keeps a stranger from getting lost: small files, small functions, names that say what lives there."""

from __future__ import annotations

import ast
from pathlib import PurePosixPath

from tests.lint.tree import product, sources

MAX_LINES, MAX_TEST_LINES, MAX_FUNCTION_LINES = 400, 600, 40
SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc"}
MIGRATIONS = "storage/postgres/migrations/"  # generated, and never changed again


def test_files_are_small() -> None:
    long = [
        f"{s.path}: {s.n_lines} lines" for s in sources() if s.n_lines > (MAX_TEST_LINES if s.is_test else MAX_LINES)
    ]
    assert not long, f"a file holds one thing and at most {MAX_LINES} lines ({MAX_TEST_LINES} a test); split it: {long}"


def test_functions_are_small() -> None:
    long = [
        f"{source.path}:{node.lineno} {node.name}: {n_lines} lines"
        for source in product()
        if not source.path.startswith(MIGRATIONS)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n_lines := _n_lines(node)) > MAX_FUNCTION_LINES
    ]
    assert not long, f"a function fits on a screen: at most {MAX_FUNCTION_LINES} lines; split it: {long}"


def _n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of signature and body, without the docstring."""
    n_lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        n_lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return n_lines


def test_names_say_what_lives_there() -> None:
    empty = {s.path for s in sources() if SAYS_NOTHING & set(PurePosixPath(s.path).with_suffix("").parts)}
    assert not empty, f"a module is named for what it does ({', '.join(sorted(SAYS_NOTHING))} say nothing): {empty}"
