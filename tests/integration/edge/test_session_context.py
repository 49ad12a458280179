"""`GET /sessions/{id}/context`: what the model would see, and why."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.postgres.unit_of_work import Database
from tests.fakes.embedder import WordHashEmbedder
from tests.integration.edge.world import Person, RunningEdge
from tests.library import add_document

pytestmark = pytest.mark.usefixtures("consumers")

LOOP = "A loop is compiled once its counter reaches two."
COPIED = " ".join(f"Word {i} of a long paragraph about the loop counter" for i in range(4))


async def add(edge: RunningEdge, database: Database, who: Person, texts: list[str], **options: Any) -> UUID:
    return await add_document(database, edge.vectors, WordHashEmbedder(), who.tenant_id, texts, **options)


async def context(edge: RunningEdge, who: Person, query: str) -> dict[str, Any]:
    async with edge.client(who) as client:
        session = (await client.post("/api/v1/sessions", json={})).json()
        shown = await client.get(f"/api/v1/sessions/{session['id']}/context", params={"query": query})
    assert shown.status_code == 200, shown.text
    view: dict[str, Any] = shown.json()
    return view


async def test_everything_is_shown_and_adds_up(edge: RunningEdge, somebody: Person, database: Database) -> None:
    paper = await add(edge, database, somebody, ["On traces.", LOOP, COPIED], name="paper.txt")
    await add(edge, database, somebody, [COPIED.replace("Word 0", "Term 0")], name="copy.txt")
    await add(edge, database, somebody, ["Say loop, not cycle."], name="house.txt", kind="custom_instructions")
    view = await context(edge, somebody, "When is a loop compiled?")
    system, last = view["messages"]
    assert "Say loop, not cycle." in system["content"]
    assert last["content"].endswith("\n\nWhen is a loop compiled?")
    best = view["passages"][0]
    assert (best["text"], best["marker"], best["document_id"]) == (LOOP, 1, str(paper))
    assert best["ranks"].keys() == {"vector", "text"}
    assert best["rerank_score"] > 0
    for passage in view["passages"]:
        assert (passage["marker"] is None) == (passage["left_out"] is not None)
        if passage["marker"]:
            assert f'<passage number="[{passage["marker"]}]"' in last["content"]
            assert passage["text"] in last["content"]
    why = {passage["left_out"]: passage for passage in view["passages"] if passage["left_out"]}
    assert why.keys() == {"copy"}
    assert why["copy"]["copy_of"] in {passage["id"] for passage in view["passages"] if passage["marker"]}
    assert [one["document_name"] for one in view["instructions"]] == ["house.txt"]
    tokens = view["tokens"]
    parts = ("rules", "instructions", "history", "passages", "question")
    assert sum(tokens[part] for part in parts) == tokens["total"]
    assert 0 <= tokens["total"] - sum(message["n_tokens"] for message in view["messages"]) <= 60
    assert view["query"] == {"text": "When is a loop compiled?", "by": "question", "failure": None}
    assert view["reranker"] == "features"
    assert {"conversation", "embed", "index", "visibility", "rerank", "assemble"} <= view["steps_ms"].keys()


async def test_long_instructions_take_no_place(edge: RunningEdge, somebody: Person, database: Database) -> None:
    policy = [f"A refund number {n} is paid to a customer after this rule." for n in range(60)]
    await add(edge, database, somebody, policy, name="policy.txt", kind="custom_instructions")
    paid = await add(edge, database, somebody, ["A refund is paid by cheque within nine days."], name="refunds.txt")
    view = await context(edge, somebody, "How is a refund paid to a customer?")
    assert [passage["document_id"] for passage in view["passages"]] == [str(paid)]
    assert {one["document_name"] for one in view["instructions"]} == {"policy.txt"}


async def test_curated_documents_come_first_where_others_are_as_good(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    for n in range(4):
        await add(edge, database, somebody, [f"The heron number {n} waits in the water."])
    curated = await add(edge, database, somebody, ["The heron number 9 waits in the water."], kind="curated_dataset")
    view = await context(edge, somebody, "Where does the heron wait?")
    assert view["passages"][0]["document_id"] == str(curated)


async def test_it_is_for_the_sessions_user_alone(
    edge: RunningEdge, somebody: Person, strangers: tuple[Person, ...]
) -> None:
    async with edge.client(somebody) as client:
        url = f"/api/v1/sessions/{(await client.post('/api/v1/sessions', json={})).json()['id']}/context"
        assert (await client.get(url, params={"query": "x"})).status_code == 200
        for params, status in (({}, 422), ({"query": " "}, 422), ({"query": "x" * 10_001}, 422)):
            assert (await client.get(url, params=params)).status_code == status
        missing = await client.get(f"/api/v1/sessions/{uuid4()}/context", params={"query": "x"})
        assert missing.status_code == 404
    for stranger in strangers:
        async with edge.client(stranger) as client:
            refused = await client.get(url, params={"query": "x"})
            assert (refused.status_code, refused.json()["code"]) == (404, missing.json()["code"])
