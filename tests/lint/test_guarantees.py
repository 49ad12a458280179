"""The page of guarantees names tests and rules that exist."""

from __future__ import annotations

import ast
import re
from typing import get_args

from tests.lint.tree import ROOT, sources
from tests.model.stream_world import Mutation

PAGE = (ROOT / "docs/guarantees.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    known = {
        f"{source.path.removeprefix('tests/')}::{node.name}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    named = set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE))
    assert len(named) > 50
    assert not named - known


def test_every_rule_of_the_model_is_named_and_no_other() -> None:
    named = {
        rule
        for rules in re.findall(r"[Rr]ules? ((?:`\w+`(?:, | and )?)+)", PAGE)
        for rule in re.findall(r"\w+(?=`)", rules)
    }
    assert named == set(get_args(Mutation))
