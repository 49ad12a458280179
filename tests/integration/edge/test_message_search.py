"""Search in one's own conversations, over real PostgreSQL."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest

from consumers.message_search.store import index_messages
from producers.edge.caller import Principal
from producers.edge.cursors import encode_cursor
from producers.edge.message_search import KIND
from producers.edge.reads import message_search as reads
from schemas.envelope import Envelope
from schemas.events import CompletionCancelled, CompletionCompleted, CompletionEnded, CompletionFailed, ErrorInfo
from schemas.http import MAX_CONTENT_CHARS
from schemas.ids import derived_id, new_id
from schemas.topics import CHAT_EVENTS
from storage.log.producer import LogProducer
from storage.postgres import migrate
from storage.postgres.unit_of_work import Database
from tests.integration.edge.test_messages import end_in_postgres, new_session, post
from tests.integration.edge.world import Person, RunningEdge, eventually, person, tell_key

SEARCH = "/api/v1/messages/search"


async def store(database: Database, who: Person, contents: Sequence[str], session_id: UUID | None = None) -> list[UUID]:
    """User messages, oldest first, and their words."""
    ids, session_id = [new_id() for _ in contents], session_id or new_id()
    async with database.transaction() as work:
        await work.execute(
            "INSERT INTO sessions (id, tenant_id, user_id, name) VALUES ($1, $2, $3, 'Stored') ON CONFLICT DO NOTHING",
            session_id,
            who.tenant_id,
            who.user_id,
        )
        await work.execute(
            "INSERT INTO messages (id, tenant_id, user_id, session_id, sender, status, content, created_at)"
            " SELECT t.id, $2, $3, $4, 'user', 'complete', t.content, now() + t.n * interval '1 second'"
            " FROM unnest($1::uuid[], $5::text[]) WITH ORDINALITY AS t(id, content, n)",
            ids,
            who.tenant_id,
            who.user_id,
            session_id,
            contents,
        )
        await index_messages(work, ids)
    return ids


async def found(client: httpx.AsyncClient, q: str, **more: Any) -> list[dict[str, Any]]:
    response = await client.get(SEARCH, params={"q": q, **more})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def shown(item: dict[str, Any]) -> list[str]:
    """What is highlighted."""
    return [item["snippet"][span["start"] : span["end"]] for span in item["highlights"]]


async def end(
    database: Database, producer: LogProducer, who: Person, session_id: str, ref: dict[str, Any], status: str, text: str
) -> None:
    """As the completions end an answer: rows, then the event."""
    await end_in_postgres(database, ref["id"], status, text)
    ids = {"session_id": session_id, "session_version": 99, "completion_id": ref["id"], "attempt": 1}
    ids |= {"message_id": ref["message_id"]}
    body: CompletionEnded
    match status:
        case "complete":
            body = CompletionCompleted(**ids, content=text, citations=(), finish_reason="stop")
        case "failed":
            error = ErrorInfo(code="boom", message="it broke")
            body = CompletionFailed(**ids, partial_content=text, error=error)
        case _:
            body = CompletionCancelled(**ids, partial_content=text)
    envelope = Envelope(body=body, tenant_id=who.tenant_id, source="completions")
    await producer.publish(CHAT_EVENTS, envelope, timeout_s=5)


@pytest.mark.usefixtures("consumers")
async def test_questions_answers_and_what_stands_of_an_answer_are_found_until_the_session_is_deleted(
    edge: RunningEdge, somebody: Person, strangers: tuple[Person, ...], database: Database, producer: LogProducer
) -> None:
    async with edge.client(somebody) as client:
        session_id = await new_session(client)
        answers = {"complete": "A badger digs.", "failed": "A badger dug", "cancelled": "Badgers d"}
        completions = [(await post(client, session_id, "What does a badger do?")).json()["completion"] for _ in answers]
        for completion, (status, text) in zip(completions, answers.items(), strict=True):
            await end(database, producer, somebody, session_id, completion, status, text)

        async def there_are_six() -> bool:
            return len(await found(client, "badger")) == 6

        await eventually(there_are_six)
        items = await found(client, "badger")
        assert sorted((item["sender"], item["status"]) for item in items) == [
            ("ai", "cancelled"),
            ("ai", "complete"),
            ("ai", "failed"),
            *[("user", "complete")] * 3,
        ]
        cancelled = next(item for item in items if item["status"] == "cancelled")
        assert (cancelled["snippet"], shown(cancelled)) == ("Badgers d", ["Badger"])
        assert cancelled["id"] == completions[2]["message_id"]
        assert {(item["session_id"], item["session_name"]) for item in items} == {
            (session_id, "What does a badger do?")
        }
        resumed = (await client.post(f"/api/v1/sessions/{session_id}/resume")).json()["completion"]
        assert [item["id"] for item in await found(client, "badgers d")] == [completions[2]["message_id"]]
        await end(database, producer, somebody, session_id, resumed, "complete", "Badgers do what they must")

        async def the_new_words_are_there() -> bool:
            return [shown(item) for item in await found(client, "badgers must")] == [["Badgers", "must"]]

        await eventually(the_new_words_are_there)
        for other in strangers:
            async with edge.client(other) as elsewhere:
                assert await found(elsewhere, "badger") == []
        assert (await client.delete(f"/api/v1/sessions/{session_id}")).status_code == 204
        assert await found(client, "badger") == []

    async def no_word_is_kept() -> bool:
        async with database.transaction() as work:
            return bool(await work.fetchval("SELECT count(*) FROM message_words") == 0)

    await eventually(no_word_is_kept)


LANGUAGES = [
    ("Die Füchse sind schlau.", "FUCHSE", ["Füchse"]),
    ("Cafe\u0301 au lait", "café", ["Cafe\u0301"]),
    ("今天天气很好，去公园吧。", "天气", ["天气"]),
    ("昨日は新幹線で京都へ行きました", "京都 新幹線", ["新幹線", "京都"]),
    ("한국어를 배우고 있어요", "한국어", ["한국어"]),
    ("ภาษาไทยไม่มีช่องว่าง", "ไทย", ["ไทย"]),
    ("हिन्दी में लिखा है", "हिन्दी", ["हिन्दी"]),
    ("Сегодня в Москве дождь", "МОСКВЕ дож", ["Москве", "дож"]),
    ("اللغة العربية جميلة", "العربية", ["العربية"]),
    ("see foo-bar@example.com, please", "bar@example.com", ["bar@example.com"]),
    ("the snake_case of C++ “quoted”", "snake_case quoted", ["snake_case", "quoted"]),
    ("Configure Kafka with KRaft", "kafka conf", ["Conf", "Kafka"]),
    ("Conf is no prefix of a word here", "conf here", ["Conf", "here"]),
    ("word " * 200 + "needle in the hay " + "word " * 200, "needle", ["needle"]),
    ("用Python写代码", "python", ["Python"]),
    ("Это я, а не яблоко", "я а", ["я", "а"]),
]
MISLEADING = ["a snake and a case", "天很好的气", "京都だけ", "ไ ท", "Configuration", "example of a bar, com"]


async def test_words_of_any_language(edge: RunningEdge, somebody: Person, database: Database) -> None:
    ids = await store(database, somebody, [*(content for content, _, _ in LANGUAGES), *MISLEADING])
    seen = {}
    async with edge.client(somebody) as client:
        for _, query, _ in LANGUAGES:
            items = await found(client, query)
            seen[query] = {item["id"]: shown(item) for item in items}
            assert all(len(item["snippet"]) <= 242 for item in items)
    assert seen == {query: {str(ids[i]): spans} for i, (_, query, spans) in enumerate(LANGUAGES)}


async def pages(client: httpx.AsyncClient, q: str, limit: int) -> list[list[dict[str, Any]]]:
    params, taken = {"q": q, "limit": str(limit)}, []
    while True:
        page = (await client.get(SEARCH, params=params)).json()
        taken.append(page["items"])
        if page["next_cursor"] is None:
            return taken
        params["cursor"] = page["next_cursor"]


async def test_pages_are_best_first_and_hold_each_message_once(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    contents = ["fox", "fox fox and a fox", "fox", *("fox " + "and more " * n for n in range(1, 5))]
    ids = [str(id_) for id_ in await store(database, somebody, contents)]
    async with edge.client(somebody) as client:
        taken = await pages(client, "fox", 3)
        everything = [item for page in taken for item in page]
        assert [len(page) for page in taken] == [3, 3, 1]
        assert everything == await found(client, "fox")
        ranks = [item["rank"] for item in everything]
        assert ranks == sorted(ranks, reverse=True)
        assert sorted(item["id"] for item in everything) == sorted(ids)
        assert everything[-1]["id"] == ids[-1], "one word among many"
        alike = [item["id"] for item in everything if item["id"] in {ids[0], ids[2]}]
        assert alike == [ids[2], ids[0]], "of those that are as good, the newer first"


async def test_bad_input_names_its_field_or_finds_nothing(
    edge: RunningEdge, somebody: Person, database: Database, producer: LogProducer
) -> None:
    await store(database, somebody, ["some words"] * 3)
    colleague = person(somebody.tenant_id)
    await tell_key(producer, colleague)
    async with edge.client(somebody) as client:
        cursor = (await client.get(SEARCH, params={"q": "words", "limit": "1"})).json()["next_cursor"]
        scope = derived_id("message search", somebody.tenant_id, somebody.user_id, "words")
        refused: list[tuple[dict[str, str], int, str]] = [
            ({}, 422, "q"),
            ({"q": ""}, 422, "q"),
            ({"q": " \t\n"}, 422, "q"),
            ({"q": "x" * 1_001}, 422, "q"),
            ({"q": "a\0b"}, 422, "q"),
            ({"q": "words", "limit": "many"}, 422, "limit"),
            ({"q": "words", "cursor": "garbage"}, 400, "cursor"),
            ({"q": "word", "cursor": cursor}, 400, "cursor"),
            ({"q": "words", "cursor": encode_cursor("messages", scope, 1)}, 400, "cursor"),
            ({"q": "words", "cursor": encode_cursor(KIND, scope, 0.5)}, 400, "cursor"),
            ({"q": "words", "cursor": encode_cursor(KIND, scope, "1", str(new_id()))}, 400, "cursor"),
            ({"q": "words", "cursor": encode_cursor(KIND, scope, 0.5, "no id")}, 400, "cursor"),
            ({"q": "words", "cursor": encode_cursor(KIND, scope, -1.5, str(new_id()))}, 400, "cursor"),
        ]
        for params, status, field in refused:
            answer = await client.get(SEARCH, params=params)
            assert (answer.status_code, answer.json()["field"]) == (status, field), (params, answer.text)
        async with edge.client(colleague) as other:
            foreign = await other.get(SEARCH, params={"q": "words", "cursor": cursor})
            assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid_cursor")
        nothing = ["?!…", "-", "🦊", "some words | others", "no:*", "'", "\\", "\ufffd", "\ue000", "天" * 1_000]
        nothing += ["\U00010428" * 1_000, "unheard of", " ".join("ab" for _ in range(333))]
        for q in nothing:
            assert await found(client, q) == [], q
        for raw in ("%ED%A0%80", "%FF", "%F0%9F"):
            answer = await client.get(f"{SEARCH}?q={raw}")
            assert (answer.status_code, answer.json()["items"]) == (200, []), "what is not UTF-8 is read as U+FFFD"
        for q in ("some & words", "!words", "(words", "words:*", "words'", "<words>", "words ?!"):
            assert len(await found(client, q)) == 3, q
        assert len(await found(client, "words", limit=10**30)) == 3


def _distinct(alphabet: str, n_chars: int, *, seed: int = 1) -> str:
    """Words of so many characters, none twice, as many as a message takes."""
    made: set[str] = set()
    rng = random.Random(seed)
    while len(made) < (MAX_CONTENT_CHARS - 8) // (n_chars + 1):
        made.add("".join(rng.choices(alphabet, k=n_chars)))
    return " ".join(sorted(made))


DESERET = "".join(map(chr, range(0x10428, 0x10450)))
LONGEST = {
    "Han": "".join(chr(0x20000 + i % 42_000) for i in range(99_992)),
    "short words": _distinct("abcdefghijklmnopqrstuvwxyz0123456789", 4),
    "short words of wide characters": _distinct(DESERET, 4),
    "long words of the characters that fold into most": _distinct("\u0f77\u0f79", 222),
    "words as long as the index takes": _distinct("ab", 2_046),
    "words longer than that": _distinct("ab", 2_500),
    "one word": "x" * 99_992,
    "one word of emoji": "🦊" * 99_992,
    "marks": "a" + "\u0301" * 99_991,
}


async def test_the_words_of_the_longest_messages_of_any_script_fit(
    edge: RunningEdge, somebody: Person, database: Database
) -> None:
    ids = await store(database, somebody, [f"{text} needle." for text in LONGEST.values()])
    async with edge.client(somebody) as client:
        items = await found(client, "needle")
        assert {item["id"] for item in items} == set(map(str, ids))
        assert [shown(item) for item in items] == [["needle"]] * len(ids)


async def test_a_search_reads_only_what_its_user_has_said(database: Database, somebody: Person) -> None:
    async with database.transaction() as work:
        await work.execute(
            "WITH s AS (INSERT INTO sessions (id, tenant_id, user_id)"
            " SELECT u, $1, u FROM unnest($2::uuid[]) u RETURNING id),"
            " m AS (INSERT INTO messages (id, tenant_id, user_id, session_id, sender, status, content)"
            " SELECT gen_random_uuid(), $1, id, id, 'user', 'complete', 'the fox said ' || n"
            " FROM s, generate_series(1, 50) n RETURNING *)"
            " INSERT INTO message_words SELECT id, tenant_id, message_words(user_id, content, NULL), updated_at FROM m",
            somebody.tenant_id,
            [somebody.user_id, *(new_id() for _ in range(200))],
        )
    async with database.transaction() as work:
        await work.execute("ANALYZE messages, message_words, sessions")
        await work.fetchval("SELECT gin_clean_pending_list('message_words_words')")
    async with database.transaction(somebody.tenant_id) as work:
        who = Principal(somebody.tenant_id, somebody.user_id, "admin", somebody.key_id)
        words = await reads.query_words(work, "fox")
        assert len(await reads.find_messages(work, who, words, after=None, limit=200)) == 50
        arguments = reads._arguments(who, words, None, 51)
        lines = await work.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {reads._FOUND}", *arguments)
    plan = "\n".join(line[0] for line in lines)
    assert "Bitmap Index Scan on message_words_words" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "Removed" not in plan, plan
    n_read = [float(rows) for rows in re.findall(r"Scan (?:on|using) .*actual time=\S+ rows=(\S+)", plan)]
    assert max(n_read) == 50, plan


async def test_messages_from_before_the_migration_are_found(
    edge: RunningEdge, somebody: Person, database: Database, dsn: str
) -> None:
    await migrate.downgrade(dsn, "0006-1")
    async with database.transaction() as work:
        await work.execute(
            "WITH s AS (INSERT INTO sessions (id, tenant_id, user_id) VALUES ($1, $2, $3))"
            " INSERT INTO messages (id, tenant_id, user_id, session_id, sender, status, content)"
            " SELECT gen_random_uuid(), $2, $3, $1, 'user', 'complete', t FROM unnest(ARRAY['old words', '']) AS t",
            new_id(),
            somebody.tenant_id,
            somebody.user_id,
        )
    await migrate.upgrade(dsn)
    async with edge.client(somebody) as client:
        assert [shown(item) for item in await found(client, "old")] == [["old"]]
