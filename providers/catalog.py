"""Builds the configured models out of plain values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from providers.embeddings import OFFLINE_MODEL, WordLlamaEmbedder
from providers.embeddings_litellm import LiteLLMEmbeddings
from providers.embeddings_openai import OpenAIEmbeddings
from providers.embeddings_remote import EmbeddingApi, RemoteEmbedder
from providers.extractive import ExtractiveAnswerer
from providers.llm_direct import DirectChatModel
from providers.llm_litellm import LiteLLMChatModel
from providers.ports import ChatModel, Embedder, Models, TokenCounter
from providers.prefill import PrefillMode

Adapter = Literal["auto", "direct", "litellm"]

_OPENAI = "https://api.openai.com/v1"
_OPENAI_COMPATIBLE = ("openai", "custom_openai", "openai_like", "hosted_vllm", "lm_studio", "llamafile")
"""litellm's prefixes for servers that speak OpenAI's protocol at `api_base`."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: the fields of `[[models]]` in the settings that matter here, secrets resolved."""

    name: str
    model: str
    api_base: str | None = None
    api_key: str | None = None
    prefill: PrefillMode = False
    context_tokens: int = 8192
    max_output_tokens: int = 2048
    timeout_s: float = 120.0
    stall_timeout_s: float = 30.0
    fallbacks: tuple[str, ...] = ()
    adapter: Adapter = "auto"


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """The embedding model: the fields of `[embedding]` in the settings that matter here, secrets resolved."""

    model: str = OFFLINE_MODEL
    api_base: str | None = None
    api_key: str | None = None
    dimensions: int | None = None
    ask_dimensions: bool = False
    batch_size: int = 128
    max_batch_tokens: int = 100_000
    requests_at_once: int = 4
    timeout_s: float = 60.0
    adapter: Adapter = "auto"

    @property
    def is_offline(self) -> bool:
        """Whether it is computed here."""
        return self.model == OFFLINE_MODEL


@runtime_checkable
class _Startable(Protocol):
    async def start(self) -> None: ...


@runtime_checkable
class _Closable(Protocol):
    async def close(self) -> None: ...


def build_chat_models(specs: Sequence[ModelSpec], *, counter: TokenCounter) -> Models:
    """The models by name, in order; the offline answerer alone where `specs` is empty.

    `auto` is the direct adapter for OpenAI itself and for every OpenAI-compatible server with an `api_base`,
    litellm for all others. Nothing is connected or imported yet. Raises: ValueError for a spec that cannot work.
    """
    if not specs:
        answerer = ExtractiveAnswerer(counter=counter)
        return Models({answerer.name: answerer})
    return Models(
        by_name={spec.name: _build(spec, counter) for spec in specs},
        fallbacks={spec.name: spec.fallbacks for spec in specs},
    )


async def start_chat_models(models: Models) -> None:
    """Does what takes seconds (importing litellm) now instead of at the first question.

    Raises: ValueError for a model that litellm does not know.
    """
    await asyncio.gather(*(m.start() for m in models.by_name.values() if isinstance(m, _Startable)))


async def close_chat_models(models: Models) -> None:
    """Gives up all connections."""
    await asyncio.gather(*(m.close() for m in models.by_name.values() if isinstance(m, _Closable)))


def build_embedder(spec: EmbeddingSpec) -> Embedder:
    """The embedder, by the same rule as chat models. Nothing is connected or imported yet.

    Raises: ValueError for a spec that cannot work.
    """
    if spec.is_offline:
        return WordLlamaEmbedder()
    if spec.dimensions is None:
        raise ValueError(f'dimensions: say how long the vectors of "{spec.model}" are')
    asked = spec.dimensions if spec.ask_dimensions else None
    direct = _direct_target(spec.model, spec.api_base, spec.adapter)
    api: EmbeddingApi
    if direct is not None:
        model, api_base = direct
        api = OpenAIEmbeddings(
            model=model, api_base=api_base, api_key=spec.api_key, ask_dimensions=asked, timeout_s=spec.timeout_s
        )
    else:
        api = LiteLLMEmbeddings(
            model=spec.model,
            api_base=spec.api_base,
            api_key=spec.api_key,
            ask_dimensions=asked,
            timeout_s=spec.timeout_s,
        )
    return RemoteEmbedder(
        api,
        model=spec.model,
        dimensions=spec.dimensions,
        batch_size=spec.batch_size,
        max_batch_tokens=spec.max_batch_tokens,
        requests_at_once=spec.requests_at_once,
    )


async def start_embedder(embedder: Embedder) -> None:
    """Does what takes seconds now. A provider is not asked: it may be away. Raises: ValueError for an unknown model."""
    if isinstance(embedder, _Startable):
        await embedder.start()


def _direct_target(model: str, api_base: str | None, adapter: Adapter) -> tuple[str, str] | None:
    """The server's own name of the model and its address, where OpenAI's protocol is spoken; else None: litellm.

    Raises: ValueError if `direct` has no address.
    """
    provider, _, rest = model.partition("/")
    compatible = provider in _OPENAI_COMPATIBLE and bool(rest)
    api_base = api_base or (_OPENAI if provider == "openai" else None)
    if adapter == "litellm" or (adapter == "auto" and not (compatible and api_base is not None)):
        return None
    if api_base is None:
        raise ValueError('adapter "direct" needs an api_base')
    return rest if compatible else model, api_base


def _build(spec: ModelSpec, counter: TokenCounter) -> ChatModel:
    try:
        direct = _direct_target(spec.model, spec.api_base, spec.adapter)
    except ValueError as error:
        raise ValueError(f'model "{spec.name}": {error}') from None
    if direct is None:
        return LiteLLMChatModel(
            name=spec.name,
            model=spec.model,
            api_base=spec.api_base,
            api_key=spec.api_key,
            prefill=spec.prefill,
            context_tokens=spec.context_tokens,
            max_output_tokens=spec.max_output_tokens,
            timeout_s=spec.timeout_s,
            stall_timeout_s=spec.stall_timeout_s,
            counter=counter,
        )
    model, api_base = direct
    return DirectChatModel(
        name=spec.name,
        model=model,
        api_base=api_base,
        api_key=spec.api_key,
        prefill=spec.prefill,
        context_tokens=spec.context_tokens,
        max_output_tokens=spec.max_output_tokens,
        timeout_s=spec.timeout_s,
        stall_timeout_s=spec.stall_timeout_s,
        counter=counter,
    )
