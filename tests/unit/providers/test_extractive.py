from __future__ import annotations

import pytest

from providers.extractive import ExtractiveAnswerer, compose
from providers.ports import ChatRequest, Delta, Finished, OfferedPassage
from providers.tokens import TiktokenCounter

PAPER = (
    """Figure 2. State machine of the compiler: when a loop is compiled and how the monitor decides.
hot
loop/exit
2. Overview
Execution always begins in the bytecode interpreter. Whenever the interpreter crosses a
loop edge, the monitor is called, which may decide to record or to run compiled code [12]. At
first nothing is compiled, so the monitor counts how often each loop edge is crossed un-
til the loop becomes hot, which is after two crossings at present.""",
    """Garbage collection stops all threads. The heap has two generations. Most objects die
young, and a write barrier keeps track of pointers between generations.""",
    """References
[1] A. Author and B. Writer. How to decide when to compile a loop. In Proceedings of the
Conference on Loops, pages 10-20, 2001.
[2] C. Person. Trace compilation of a loop. pp. 1-9, 1999.""",
)


def offered(*texts: str, document: str = "paper.pdf", rank: int = 1, first: int = 1) -> tuple[OfferedPassage, ...]:
    return tuple(
        OfferedPassage(first + i, f"{document}-{i}", document, text, document_rank=rank, ordinal=i)
        for i, text in enumerate(texts)
    )


def answer(question: str, passages: tuple[OfferedPassage, ...]) -> str:
    return compose(ChatRequest(messages=(), question=question, passages=passages))


def test_answers_with_the_sentences_that_tell_and_cites_them() -> None:
    text = answer("How does trace-based compilation decide when to compile a loop?", offered(*PAPER))
    assert text.startswith("Whenever the interpreter crosses a loop edge, the monitor is called")
    assert "counts how often each loop edge is crossed until the loop becomes hot" in text
    assert text.endswith("[1]")
    assert "Figure" not in text
    assert "Proceedings" not in text
    assert "[12]" not in text, "a reference of the document must not look like a citation"


def test_the_best_passage_for_the_question_is_used_wherever_it_stands() -> None:
    text = answer("How many generations does the heap have?", offered(*PAPER))
    assert text.startswith("The heap has two generations.")
    assert "[2]" in text


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("배터리는 얼마나 오래 사용할 수 있습니까?", "배터리는 한 번 충전하면 최대 12시간 사용할 수 있습니다."),
        ("バッテリーはどのくらい持ちますか？", "バッテリーは一回の充電で最大十二時間持ちます。"),
        ("电池可以使用多久？", "电池充满一次可以使用十二个小时。"),
        ("Wie lange hält der Akku?", "Der Akku hält nach einer Ladung bis zu zwölf Stunden."),
        ("Сколько работает аккумулятор?", "Аккумулятор работает до двенадцати часов."),
    ],
)
def test_other_languages(question: str, wanted: str) -> None:
    texts = {
        "ko": "이 제품은 서울에서 설계되었습니다. 배터리는 한 번 충전하면 최대 12시간 사용할 수 있습니다. ",
        "ja": "この製品は東京で設計されました。バッテリーは一回の充電で最大十二時間持ちます。画面は六インチです。",
        "zh": "本产品在上海设计。电池充满一次可以使用十二个小时。屏幕为六英寸。",
        "de": "Das Gerät wurde in Berlin entworfen. Der Akku hält nach einer Ladung bis zu zwölf Stunden. Mehr nicht.",
        "ru": "Устройство создано в Москве. Аккумулятор работает до двенадцати часов. Экран имеет шесть дюймов.",
    }
    passages = offered(*texts.values())
    assert answer(question, passages).startswith(wanted)


def test_near_duplicates_come_once() -> None:
    same = "The monitor counts how often each loop edge is crossed."
    text = answer("What does the monitor count?", offered(same, same, same.replace("each", "every")))
    assert text == f"{same} [1]"


def test_where_nothing_matches_the_opening_of_the_best_document_is_cited() -> None:
    second = offered(
        "The opening of the best document says something useful. It goes on.", document="b", rank=1, first=3
    )
    first = offered("The other document begins like this and goes on.", document="a", rank=2)
    text = answer("Quantum chromodynamics?", (*first, *second))
    assert text.startswith("The opening of the best document says something useful.")
    assert text.endswith("[3]")


def test_headings_alone_still_answer() -> None:
    assert answer("Anything?", offered("Chapter one")) == "Chapter one [1]"


@pytest.mark.parametrize("texts", [(), ("",), (" \n ",)])
def test_refuses_only_without_any_text(texts: tuple[str, ...]) -> None:
    text = answer("What now?", offered(*texts))
    assert "no language model is configured" in text


async def test_streams_in_word_groups() -> None:
    model = ExtractiveAnswerer(counter=TiktokenCounter())
    request = ChatRequest(messages=(), question="How is a loop compiled?", passages=offered(*PAPER))
    items = [item async for item in model.stream(request)]
    assert len(items) > 5
    assert isinstance(items[-1], Finished)
    assert "".join(i.text for i in items if isinstance(i, Delta)) == compose(request)


async def test_a_foreign_prefill_is_kept_and_followed_by_an_answer() -> None:
    model = ExtractiveAnswerer(counter=TiktokenCounter())
    request = ChatRequest(messages=(), question="heap generations?", passages=offered(*PAPER), prefill="As I said,")
    text = "".join([i.text async for i in model.stream(request) if isinstance(i, Delta)])
    assert text == " " + compose(request)


def test_ill_formed_passages_give_well_formed_text() -> None:
    text = answer("What is broken?", offered("The broken \ud83d thing is \x00 here, and it is broken for good."))
    text.encode()
    assert "\x00" not in text
