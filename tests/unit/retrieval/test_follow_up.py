from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.catalog import ModelSpec, build_chat_models, close_chat_models
from providers.tokens import TiktokenCounter
from retrieval.follow_up import (
    MAX_QUERY,
    QueryRewriter,
    StandaloneQuery,
    follow_up_query,
    is_follow_up,
    standalone_query,
)
from storage.postgres.conversations import StoredTurn
from tests.provider_server import ProviderServer

FIRST = "How does trace-based compilation find hot loops?"


def said(*questions: str) -> list[StoredTurn]:
    return [
        turn for q in questions for turn in (StoredTurn("user", q, "complete"), StoredTurn("ai", "So.", "complete"))
    ]


@pytest.mark.parametrize(
    "question",
    [
        "And what about the outer loops of a program?",
        "Why?",
        "What about recursion in nested function calls?",
        "How does it decide when to compile a loop?",
        "Und wie sieht es mit verschachtelten Schleifen aus?",
        "Wann ist er in den Ruhestand gegangen?",
        "Et pour les boucles imbriquées du programme ?",
        "¿Y qué pasa con los bucles anidados del programa?",
        "E quanto a chamadas recursivas de uma função?",
        "А что насчёт вложенных циклов программы?",
        "それはいつ公開されましたか、詳しく教えてください",
        "그것은 언제 출시되었는지 자세히 알려 주세요",
        "它是什么时候发布的，请详细说明",
        "上海明年的天气预报呢？",
    ],
)
def test_what_leans_on_the_question_before(question: str) -> None:
    assert is_follow_up(question)
    assert follow_up_query(question, said(FIRST)) == f"{question}\n{FIRST}"


@pytest.mark.parametrize(
    "question",
    [
        FIRST,
        "Which benchmark suite was used for the evaluation?",
        "Die Firma Nokia wurde von wem übernommen?",
        "Il contratto di locazione quando scade esattamente?",
        "O que é compilação baseada em rastreamento de laços?",
        "En quelle année Microsoft a-t-elle racheté Nokia ?",
        "빅포인트의 유효기간은 어떻게 계산되나요 그리고 언제부터인가요",
        "マイクロソフトはいつノキアを買収しましたか",
    ],
)
def test_what_stands_for_itself(question: str) -> None:
    assert follow_up_query(question, said("Something else entirely?")) == question


def test_a_chain_of_follow_ups_reaches_its_subject_and_ends() -> None:
    assert follow_up_query("And when?", said(FIRST, "Why?")) == f"And when?\nWhy?\n{FIRST}"
    assert follow_up_query("5?", said(FIRST, "1?", "2?", "3?", "4?")) == "5?\n4?\n3?\n2?"
    assert follow_up_query("Why?", []) == "Why?"


@given(st.text(max_size=200), st.lists(st.text(max_size=2_000), max_size=6))
def test_any_question_stays_first_and_the_query_is_bounded(question: str, earlier: list[str]) -> None:
    query = follow_up_query(question, said(*earlier))
    assert query.startswith(question)
    assert len(query) <= MAX_QUERY


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"text": ' "Why are loops hot?" \n\nBecause.'}, StandaloneQuery("Why are loops hot?", "model")),
        ({"text": " \n"}, StandaloneQuery(f"Why?\n{FIRST}", "rule", "it wrote no query")),
        ({"text": "x" * (MAX_QUERY + 1)}, StandaloneQuery(f"Why?\n{FIRST}", "rule", "it wrote no query")),
        ({"hang": True}, StandaloneQuery(f"Why?\n{FIRST}", "rule", "no answer in 0.3 s")),
    ],
)
async def test_the_auxiliary_model_or_the_rule(how: dict[str, Any], expected: StandaloneQuery) -> None:
    async with ProviderServer() as server:
        server.set(**how)
        spec = ModelSpec(name="aux", model="openai/aux", api_base=server.url, api_key="k")
        models = build_chat_models([spec], counter=TiktokenCounter())
        rewriter = QueryRewriter(models.default, TiktokenCounter(), within_s=0.3 if "hang" in how else 10)
        assert await standalone_query("Why?", said(FIRST), rewriter) == expected
        assert await standalone_query("Why?", [], rewriter) == StandaloneQuery("Why?", "question")
        await close_chat_models(models)
        assert server.stats.calls == 1
