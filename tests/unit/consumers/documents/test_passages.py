"""Passages: exact spans, everything covered, sized by tokens, along the document's structure."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.documents.parse.document import Block, BlockKind, ParsedDocument
from consumers.documents.passages import DEFAULT_SIZE, PassageSize, PassageSpan, has_words, split_into_passages
from providers.tokens import TiktokenCounter


class WordCounter:
    """A token is four characters, or what is left of a word."""

    def count(self, text: str) -> int:
        return sum(-(-len(word) // 4) for word in text.split())

    def truncate(self, text: str, max_tokens: int) -> str:
        end = 0
        while end < len(text) and self.count(text[: end + 1]) <= max_tokens:
            end += 1
        return text[:end]


def check(parsed: ParsedDocument, passages: list[PassageSpan], counter: WordCounter, max_tokens: int) -> None:
    position = 0
    for passage in passages:
        text = parsed.text[passage.start : passage.end]
        assert text
        assert text == text.strip()
        assert position <= passage.start
        assert not parsed.text[position : passage.start].strip()
        assert passage.n_tokens == counter.count(text) <= max_tokens
        assert passage.content_hash == hashlib.sha256(text.encode()).hexdigest()
        if parsed.pages and passage.page is not None:
            first, last = parsed.pages[passage.page - 1]
            assert first <= passage.start
            assert passage.end <= last
        position = passage.end
    assert not parsed.text[position:].strip()


def cut(
    parsed: ParsedDocument, target: int = DEFAULT_SIZE.target_tokens, most: int = DEFAULT_SIZE.max_tokens
) -> list[str]:
    """The texts of its passages."""
    spans = split_into_passages(parsed, WordCounter(), PassageSize(target, most))
    return [parsed.text[span.start : span.end] for span in spans]


KINDS: tuple[BlockKind, ...] = ("heading", "paragraph", "table", "code", "list")
kinds = st.sampled_from(KINDS)
texts = st.text(
    alphabet=st.one_of(
        st.sampled_from(list(' \n\n\t..!?,"') + list("abcdeXYZ19")), st.sampled_from("。語한é\u0301\U0001f642")
    ),
    max_size=200,
)


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    """Blocks with gaps of any text between them, on pages or not."""
    text, blocks, pages = "", [], []
    is_paged = draw(st.booleans())
    for number in range(draw(st.integers(1, 3))):
        page_start = len(text)
        for _ in range(draw(st.integers(0, 5))):
            text += draw(texts) if draw(st.booleans()) else "\n\n"
            content = draw(texts)
            kind: BlockKind = draw(kinds)
            level = draw(st.integers(1, 3)) if kind == "heading" else 0
            blocks.append(Block(kind, len(text), len(text) + len(content), level, number + 1 if is_paged else None))
            text += content
        pages.append((page_start, len(text)))
        text += "\n\n"
    return ParsedDocument(text, "text/plain", tuple(blocks), tuple(pages) if is_paged else ())


@given(documents(), st.integers(3, 40), st.integers(3, 60))
@settings(max_examples=300, deadline=None)
def test_spans_are_exact_and_everything_is_covered(parsed: ParsedDocument, target: int, most: int) -> None:
    passages = split_into_passages(parsed, WordCounter(), PassageSize(target, most))
    check(parsed, passages, WordCounter(), most)
    assert passages == split_into_passages(parsed, WordCounter(), PassageSize(target, most))


def assembled(*pieces: tuple[BlockKind, str, int]) -> ParsedDocument:
    text, blocks = "", []
    for kind, content, level in pieces:
        text += "\n\n" if text else ""
        blocks.append(Block(kind, len(text), len(text) + len(content), level))
        text += content
    return ParsedDocument(text, "text/plain", tuple(blocks))


def words(n: int, word: str = "word") -> str:
    return " ".join([word] * n)


def test_headings_lead_passages_and_make_their_path() -> None:
    parsed = assembled(
        ("heading", "# Guide #", 1),
        ("heading", "Install", 2),
        ("paragraph", words(40), 0),
        ("heading", "Use", 2),
        ("paragraph", words(40, "uses"), 0),
        ("heading", "Annex", 1),
        ("paragraph", words(40, "more"), 0),
    )
    passages = split_into_passages(parsed, WordCounter(), PassageSize(60, 100))
    assert [passage.heading_path for passage in passages] == [("Guide", "Install"), ("Guide", "Use"), ("Annex",)]
    assert [parsed.text[passage.start : passage.end].split()[0] for passage in passages] == ["#", "Use", "Annex"]


def test_a_short_opening_stays_with_its_first_subsection() -> None:
    parsed = assembled(
        ("heading", "Top", 1), ("paragraph", "Short.", 0), ("heading", "Sub", 2), ("paragraph", words(20), 0)
    )
    (passage,) = split_into_passages(parsed, WordCounter(), PassageSize(60, 100))
    assert passage.heading_path == ("Top",)


@pytest.mark.parametrize("kind", ["table", "code", "list"])
def test_what_belongs_together_stays_whole_where_it_fits(kind: BlockKind) -> None:
    whole = "\n".join(f"row{n} a. B c. D" for n in range(12))
    parsed = assembled(("paragraph", words(50), 0), (kind, whole, 0), ("paragraph", words(50), 0))
    assert sum(whole in text for text in cut(parsed, 60, 100)) == 1


def test_a_table_too_long_for_a_passage_is_cut_between_rows() -> None:
    rows = [f"row{n}. Alpha | beta. Gamma" for n in range(100)]
    found = cut(assembled(("table", "\n".join(rows), 0)), 30, 50)
    assert len(found) > 5
    assert [row for text in found for row in text.split("\n")] == rows


def test_long_paragraphs_are_cut_at_sentence_ends() -> None:
    sentences = [f"Sentence number {n} says e.g. this and v1.5 of that." for n in range(60)]
    parsed = assembled(("paragraph", " ".join(sentences), 0))
    found = cut(parsed, 50, 80)
    assert len(found) > 5
    assert all(text.startswith("Sentence") and text.endswith("that.") for text in found)


def test_chinese_sentences_need_no_spaces() -> None:
    parsed = assembled(("paragraph", "这是一个句子。" * 60, 0))
    assert all(text.endswith("。") for text in cut(parsed, 20, 40))


def test_a_passage_never_crosses_a_page() -> None:
    parsed = ParsedDocument("one page\n\ntwo page", "application/pdf", pages=((0, 8), (10, 18)))
    passages = split_into_passages(parsed, WordCounter())
    assert [(passage.page, parsed.text[passage.start : passage.end]) for passage in passages] == [
        (1, "one page"),
        (2, "two page"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("x" * 2_000_000, id="letters"),
        pytest.param("word " * 400_000, id="words"),
        pytest.param("A sentence. " * 170_000, id="sentences"),
        pytest.param("." * 2_000_000, id="dots"),
        pytest.param(" " * 2_000_000 + "x", id="spaces"),
        pytest.param("é\u0301" * 300_000, id="accents"),
        pytest.param("語" * 600_000, id="cjk"),
        pytest.param("a\n" * 300_000, id="lines"),
        pytest.param(". " * 500_000, id="dots-spaces"),
        pytest.param("\n \n" * 300_000 + "x", id="blank-lines"),
    ],
)
def test_two_megabytes_take_seconds(line: str) -> None:
    counter = TiktokenCounter()
    counter.count("load")
    started = time.process_time()
    parsed = ParsedDocument(line, "text/plain", (Block("paragraph", 0, len(line)),))
    passages = split_into_passages(parsed, counter)
    assert time.process_time() - started < 15
    assert "".join("".join(line[passage.start : passage.end].split()) for passage in passages) == "".join(line.split())
    assert max(passage.n_tokens for passage in passages) <= 400


@pytest.mark.parametrize("text", ["a", "7", "é", "東", "ا", "अ", "[[٣]]", "½", "🙂 b"])
def test_a_letter_or_a_digit_of_any_script_is_enough(text: str) -> None:
    assert has_words(f"[[[\n{text}\n]]]")


@pytest.mark.parametrize("text", ["", "[[[\n]]]", "-- … ***", "🙂", "___"])
def test_signs_alone_say_nothing(text: str) -> None:
    assert not has_words(text)
