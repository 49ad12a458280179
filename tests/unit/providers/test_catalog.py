from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from providers.catalog import (
    EmbeddingSpec,
    ModelSpec,
    build_chat_models,
    build_embedder,
    close_chat_models,
    start_chat_models,
)
from providers.embeddings import WordLlamaEmbedder
from providers.embeddings_litellm import LiteLLMEmbeddings
from providers.embeddings_openai import OpenAIEmbeddings
from providers.embeddings_remote import RemoteEmbedder
from providers.extractive import ExtractiveAnswerer
from providers.llm_direct import DirectChatModel
from providers.llm_litellm import LiteLLMChatModel
from providers.tokens import TiktokenCounter

COUNTER = TiktokenCounter()


@pytest.mark.parametrize(
    ("model", "api_base", "adapter", "kind"),
    [
        ("openai/gpt-4o-mini", None, "auto", DirectChatModel),
        ("openai/llama", "http://localhost:8000/v1", "auto", DirectChatModel),
        ("hosted_vllm/meta/llama", "http://localhost:8000/v1", "auto", DirectChatModel),
        ("anthropic/claude", None, "auto", LiteLLMChatModel),
        ("hosted_vllm/llama", None, "auto", LiteLLMChatModel),
        ("openai/llama", "http://localhost:8000/v1", "litellm", LiteLLMChatModel),
        ("meta/llama", "http://localhost:8000/v1", "direct", DirectChatModel),
    ],
)
async def test_which_adapter(model: str, api_base: str | None, adapter: str, kind: type) -> None:
    spec = ModelSpec("fast", model, api_base=api_base, adapter=adapter, prefill="prefix", context_tokens=999)  # type: ignore[arg-type]
    models = build_chat_models([spec], counter=COUNTER)
    assert type(models.default) is kind
    assert (models.default.name, models.default.can_prefill, models.default.context_tokens) == ("fast", True, 999)
    await close_chat_models(models)


async def test_a_model_that_litellm_does_not_know_ends_the_start() -> None:
    models = build_chat_models([ModelSpec("fast", "nonsense/x")], counter=COUNTER)
    with pytest.raises(
        ValueError, match='model "fast": litellm knows no provider for "nonsense/x"; write PROVIDER/MODEL'
    ):
        await start_chat_models(models)


async def test_the_offline_answerer_only_without_models() -> None:
    models = build_chat_models([], counter=COUNTER)
    assert isinstance(models.default, ExtractiveAnswerer)
    assert list(models.by_name) == ["offline-extractive"]
    await start_chat_models(models)
    await close_chat_models(models)
    assert models.default.can_prefill


def test_the_first_is_the_default() -> None:
    specs = [ModelSpec("b", "openai/x"), ModelSpec("a", "openai/y")]
    models = build_chat_models(specs, counter=COUNTER)
    assert models.default.name == "b"
    assert models.get("a").name == "a"


def test_a_spec_that_cannot_work() -> None:
    with pytest.raises(ValueError, match='"x": adapter "direct" needs an api_base'):
        build_chat_models([ModelSpec("x", "meta/llama", adapter="direct")], counter=COUNTER)
    with pytest.raises(ValueError, match="must begin with http"):
        build_chat_models([ModelSpec("x", "openai/llama", api_base="localhost:8000")], counter=COUNTER)


def test_litellm_is_imported_only_where_a_model_needs_it() -> None:
    code = (
        "import asyncio, sys\n"
        "from providers.catalog import *\n"
        "from providers.tokens import TiktokenCounter\n"
        "async def main(model):\n"
        "    models = build_chat_models([ModelSpec('m', model)], counter=TiktokenCounter())\n"
        "    await start_chat_models(models)\n"
        "    await close_chat_models(models)\n"
        "build_embedder(EmbeddingSpec('cohere/x', dimensions=8))\n"
        "asyncio.run(main('openai/x'))\n"
        "assert not {'litellm', 'tiktoken', 'wordllama'} & sys.modules.keys()\n"
        "asyncio.run(main('anthropic/x'))\n"
        "assert 'litellm' in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=100, check=False).returncode == 0


@pytest.mark.parametrize(
    ("model", "api_base", "adapter", "kind"),
    [
        ("openai/text-embedding-3-small", None, "auto", OpenAIEmbeddings),
        ("hosted_vllm/BAAI/bge-m3", "http://localhost:8000/v1", "auto", OpenAIEmbeddings),
        ("bge-m3", "http://localhost:8000/v1", "direct", OpenAIEmbeddings),
        ("cohere/embed-english-v3.0", None, "auto", LiteLLMEmbeddings),
        ("openai/e", "http://localhost:8000/v1", "litellm", LiteLLMEmbeddings),
    ],
)
async def test_which_embedder(model: str, api_base: str | None, adapter: Any, kind: type) -> None:
    embedder = build_embedder(EmbeddingSpec(model, api_base=api_base, adapter=adapter, dimensions=8))
    assert isinstance(embedder, RemoteEmbedder)
    assert type(embedder._api) is kind
    assert (embedder.model, embedder.dimensions) == (f"{model}-8", 8), "the same vectors by whatever adapter"
    await embedder.close()


def test_the_offline_embedder_is_the_default() -> None:
    assert isinstance(build_embedder(EmbeddingSpec()), WordLlamaEmbedder)
    assert EmbeddingSpec().is_offline
