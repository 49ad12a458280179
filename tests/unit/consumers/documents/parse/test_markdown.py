"""Markdown: structure found, source kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.documents.parse.document import ParseFailed, ParseLimits
from consumers.documents.parse.formats import parse
from consumers.documents.parse.markdown import parse_markdown
from tests.conftest import Samples
from tests.unit.consumers.documents.parse.well_formed import assert_well_formed

SOURCE = """\
---
title: of no interest
---
# The *title* #

Some **bold** text
over two lines.

## Code

```python
def f():

    return "# no heading"
```

    indented code

Setext
------

- one
- two

  still two

| a | b |
|---|---|
| 1 | 2 |

> quoted

<div>raw</div>
"""


def test_blocks_keep_their_source() -> None:
    document = parse_markdown(SOURCE, ParseLimits())
    assert_well_formed(document)
    assert document.title == "The *title*"
    assert [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks] == [
        ("heading", 1, "The *title*"),
        ("paragraph", 0, "Some **bold** text\nover two lines."),
        ("heading", 2, "Code"),
        ("code", 0, '```python\ndef f():\n\n    return "# no heading"\n```'),
        ("code", 0, "    indented code"),
        ("heading", 2, "Setext"),
        ("list", 0, "- one\n- two\n\n  still two"),
        ("table", 0, "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("paragraph", 0, "> quoted"),
        ("paragraph", 0, "<div>raw</div>"),
    ]


def test_a_line_of_dashes_alone_is_no_front_matter() -> None:
    assert parse_markdown("---\nText that never ends the block above.", ParseLimits()).text.endswith("above.")


def test_nothing_but_marks_is_empty() -> None:
    with pytest.raises(ParseFailed) as failed:
        parse_markdown("---\n\n***\n", ParseLimits())
    assert failed.value.code == "empty_document"


def test_deep_nesting_ends() -> None:
    document = parse_markdown(">" * 5_000 + " deep\n\n" + "- " * 2_000 + "deeper", ParseLimits())
    assert "deeper" in document.text


@given(st.text(st.sampled_from("#-*>`~|=[](){}<>! \n\tab1.\\_"), min_size=1, max_size=200))
def test_any_source_is_well_formed_or_empty(source: str) -> None:
    try:
        document = parse_markdown(source, ParseLimits())
    except ParseFailed:
        return
    assert_well_formed(document)


def test_the_sample_keeps_its_code(samples: Samples) -> None:
    path = samples.path("readme.md")
    document = parse(path, name="readme.md", media_type=None, limits=ParseLimits())
    assert_well_formed(document)
    source = path.read_text()
    code = [document.text[block.start : block.end] for block in document.blocks if block.kind == "code"]
    assert code
    assert all(block in source for block in code)
