"""Builds the configured chat models out of plain values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from providers.extractive import ExtractiveAnswerer
from providers.llm_direct import DirectChatModel
from providers.llm_litellm import LiteLLMChatModel
from providers.ports import ChatModel, Models, TokenCounter
from providers.prefill import PrefillMode

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
    adapter: Literal["auto", "direct", "litellm"] = "auto"


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


def _build(spec: ModelSpec, counter: TokenCounter) -> ChatModel:
    provider, _, rest = spec.model.partition("/")
    compatible = provider in _OPENAI_COMPATIBLE and bool(rest)
    api_base = spec.api_base or (_OPENAI if provider == "openai" else None)
    direct = spec.adapter == "direct" or (spec.adapter == "auto" and compatible and api_base is not None)
    if not direct:
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
    if api_base is None:
        raise ValueError(f'model "{spec.name}": adapter "direct" needs an api_base')
    return DirectChatModel(
        name=spec.name,
        model=rest if compatible else spec.model,
        api_base=api_base,
        api_key=spec.api_key,
        prefill=spec.prefill,
        context_tokens=spec.context_tokens,
        max_output_tokens=spec.max_output_tokens,
        timeout_s=spec.timeout_s,
        stall_timeout_s=spec.stall_timeout_s,
        counter=counter,
    )
