"""The test server itself: what other tests rely on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

import openai
import pytest

from providers.llm_direct import DirectChatModel
from providers.ports import ChatMessage, ChatRequest, Delta
from providers.tokens import TiktokenCounter
from tests.provider_server import Behaviour, ProviderServer, answer_text
from tests.provider_server.behaviour import answer_tokens, tokens_after


def test_the_text_is_the_same_in_every_process_and_has_wide_characters() -> None:
    text = answer_text("q", Behaviour(n_tokens=2_000))
    assert text == answer_text("q [[n_tokens=5]]".replace(" [[n_tokens=5]]", ""), Behaviour(n_tokens=2_000))
    assert any(ord(c) > 0xFFFF for c in text)
    assert text != answer_text("another", Behaviour(n_tokens=2_000))


def test_tokens_after_any_prefix() -> None:
    tokens = answer_tokens("q", Behaviour())
    text = "".join(tokens)
    for cut in range(len(text) + 1):
        assert "".join(tokens_after(tokens, text[:cut])) == text[cut:]
    assert tokens_after(tokens, "something else") == tokens


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown: n_token; known: n_tokens"):
        Behaviour().with_changes({"n_token": 1})


async def test_the_openai_client_understands_it() -> None:
    async with ProviderServer() as server:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
        messages: list[Any] = [{"role": "user", "content": "q [[n_tokens=9]]"}]
        text = ""
        async with await client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        assert text == answer_text("q [[n_tokens=9]]")
        whole = await client.chat.completions.create(model="m", messages=messages)
        assert whole.choices[0].message.content == text
        await client.close()


async def test_directives_in_the_models_name_and_the_pace() -> None:
    async with ProviderServer() as server:
        name = "any?n_tokens=20&tokens_per_s=100&first_token_s=0.1"
        model = DirectChatModel(name="m", model=name, api_base=server.url, counter=TiktokenCounter())
        started = time.monotonic()
        times = [
            time.monotonic() - started
            async for item in model.stream(ChatRequest((ChatMessage("user", "q"),)))
            if isinstance(item, Delta)
        ]
        assert times[0] >= 0.1
        assert times[-1] >= 0.28
        assert server.stats.tokens_sent == 20
        await model.close()


def test_as_a_process_with_control_and_stats() -> None:
    def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    command = [sys.executable, "-m", "tests.provider_server", "--port", "0", "--set", '{"n_tokens": 3}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        base = url.removesuffix("/v1")
        chat = {"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": True}
        status, body = ask(f"{url}/chat/completions", chat)
        assert (status, body.count(b"data: ")) == (200, 5)
        assert ask(f"{base}/control", {"model": "m", "set": {"error_status": 503, "times": 1}})[0] == 200
        assert ask(f"{url}/chat/completions", chat)[0] == 503
        assert ask(f"{url}/chat/completions", chat)[0] == 200
        assert ask(f"{base}/control", {"set": {"nonsense": 1}})[0] == 400
        stats = json.loads(ask(f"{base}/stats")[1])
        assert (stats["calls"], stats["errors_sent"]) == (3, 1)
        process.terminate()
    assert process.returncode == 0
