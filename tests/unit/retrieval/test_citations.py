from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from retrieval.citations import cite
from retrieval.quotes import MAX_QUOTE
from storage.ports import PassageView
from tests.unit.retrieval.passages import passage

HOT = passage(
    "Loops are common. A loop is compiled once its counter reaches two. Then it is fast.", number=1, start=500
)
EXIT = passage("A side exit leaves the trace. Hot exits get traces of their own.", number=2, start=900, page=None)
OFFERED = [HOT, EXIT]


def quotes(text: str, offered: list[PassageView] | None = None) -> list[str]:
    return [citation.quote for citation in cite(text, OFFERED if offered is None else offered)]


def test_a_marker_becomes_the_sentence_it_rests_on() -> None:
    (citation,) = cite("Compilation of a loop begins when the counter reaches two [1]. That is all.", OFFERED)
    assert citation.quote == "A loop is compiled once its counter reaches two."
    assert (citation.start, citation.end) == (518, 566)
    assert (citation.document_id, citation.version, citation.page) == (HOT.document_id, 1, 3)


def test_order_of_first_mention_and_each_once() -> None:
    cited = cite("Exits [2]. Loops [1]. Both [1][2], again [2, 1].", OFFERED)
    assert [citation.start >= 900 for citation in cited] == [True, False]


def test_markers_that_share_a_sentence() -> None:
    assert quotes("A loop counter reaches two, a side exit leaves the trace [1][2].") == [
        "A loop is compiled once its counter reaches two.",
        "A side exit leaves the trace.",
    ]
    assert quotes("A side exit leaves the trace [1], [2].")[1] == "A side exit leaves the trace."


def test_a_marker_after_the_full_stop() -> None:
    assert quotes("Unrelated. The counter reaches two.[1] Hot exits get own traces. [2]") == [
        "A loop is compiled once its counter reaches two.",
        "Hot exits get traces of their own.",
    ]


def test_the_best_of_all_sentences_that_cite_a_passage() -> None:
    assert quotes("Hm [2]. Hot exits get traces of their own [2].") == ["Hot exits get traces of their own."]


def test_unknown_markers_do_not_count() -> None:
    assert quotes("Loops [1], [7] and [0].") == quotes("Loops [1].")
    assert len(cite("Only wrong ones [9].", OFFERED)) == 2


def test_without_markers_the_offered_are_cited_best_first() -> None:
    many = [passage(f"Passage number {i} stands here.", number=i, start=100 * i) for i in range(8)]
    assert [citation.start for citation in cite("An answer.", many)] == [0, 100, 200, 300, 400]
    assert quotes("Hot exits get traces.")[1] == "Hot exits get traces of their own."


def test_nothing_to_cite() -> None:
    assert cite("", OFFERED) == []
    assert cite("  \n", OFFERED) == []
    assert cite("Text [1].", []) == []
    assert quotes("A side exit [1].", [passage(""), EXIT]) == ["A side exit leaves the trace."]


def test_no_shared_word_quotes_the_opening() -> None:
    assert quotes("전혀 다른 언어로 쓴 대답입니다 [2].") == [
        "A side exit leaves the trace. Hot exits get traces of their own."
    ]


words = st.sampled_from(
    ["loop", "trace", "exit.", "Hot", "two!", "\n\n", "추적은", "犬ではない。", "x" * 320, "é", "[1]", "e.g."]
)
texts = st.lists(words, max_size=60).map(" ".join)
offered = st.lists(st.tuples(texts | st.text(max_size=200), st.integers(0, 10_000)), max_size=5).map(
    lambda drawn: [passage(text, number=i, start=start) for i, (text, start) in enumerate(drawn)]
)
answers = st.lists(words | st.integers(0, 7).map(lambda n: f"[{n}]") | st.text(max_size=20), max_size=30).map(" ".join)


@given(answers, offered)
def test_the_quote_stands_in_the_passage_at_the_span(text: str, offered: list[PassageView]) -> None:
    by_place: dict[UUID, list[PassageView]] = {}
    for view in offered:
        by_place.setdefault(view.document_id, []).append(view)
    cited = cite(text, offered)
    for citation in cited:
        assert 0 < len(citation.quote) <= MAX_QUOTE
        assert citation.end - citation.start == len(citation.quote)
        assert any(
            view.start <= citation.start
            and citation.end <= view.end
            and view.text[citation.start - view.start : citation.end - view.start] == citation.quote
            for view in by_place[citation.document_id]
        )
    assert len(cited) <= len(offered)
    assert bool(cited) == bool(text.strip() and any(view.text.strip() for view in offered))
    assert cited == cite(text, offered)
