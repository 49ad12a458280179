"""Generated pages are as the program is, links lead somewhere, settings in examples are settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ragline.settings import Settings
from tests.docs.markdown import ROOT, pages, snippets
from tests.docs.pages import PAGES

LANGUAGES = {"sh", "toml", "mermaid", "json", "python", "sql", ""}
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")
_DECISION = ["Context", "Decision", "Consequences", "Alternatives"]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_true(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `.venv/bin/python -m tests.docs.pages`"


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    targets = [match[1] for match in _LINK.finditer((ROOT / page).read_text())]
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing


@pytest.mark.parametrize("page", pages())
def test_blocks_are_of_a_kind_that_is_checked(page: str) -> None:
    assert {snippet.language for snippet in snippets(page)} <= LANGUAGES


@pytest.mark.parametrize("page", pages())
def test_settings_in_examples_are_settings(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for snippet in snippets(page):
        if snippet.language == "toml":
            written = tomllib.loads(snippet.text)
            assert Settings.model_validate(written).model_fields_set == written.keys()


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith("docs/decisions/")])
def test_a_decision_has_its_form(page: str) -> None:
    text = (ROOT / page).read_text()
    assert re.match(rf"# {int(Path(page).name[:4])}\. \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:4] == _DECISION


def test_decisions_are_numbered_one_after_another_and_the_index_has_them() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert re.findall(r"\(decisions/(\d{4}[\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text()) == names
