"""Chat models, embeddings, rerankers and text recognition by the settings."""

from __future__ import annotations

from dataclasses import replace

from consumers.documents.recognition import CommandRecognizer, Recognizer
from providers import catalog
from providers.catalog import EmbeddingSpec, ModelSpec, build_chat_models, start_chat_models
from providers.ports import Embedder, Models, Reranker
from providers.rerankers import LiteLLMReranker, ServerReranker
from providers.tokens import TiktokenCounter
from ragline.settings import (
    OFFLINE_EMBEDDING,
    Settings,
    SettingsError,
    embedding_key,
    model_key,
    resolve_secret,
)
from retrieval.feature_reranker import FeatureReranker


def build_models(settings: Settings) -> Models:
    """The configured chat models, or the offline answerer. Raises: SettingsError."""
    return _built([_spec(settings, n) for n in range(len(settings.models))])


def build_model(settings: Settings, n: int) -> Models:
    """The n-th configured chat model alone. Raises: SettingsError."""
    return _built([replace(_spec(settings, n), fallbacks=())])


def _spec(settings: Settings, n: int) -> ModelSpec:
    model = settings.models[n]
    return ModelSpec(
        name=model.name,
        model=model.model,
        api_base=model.api_base,
        api_key=model_key(settings, n),
        prefill=model.prefill,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        timeout_s=model.timeout_s,
        stall_timeout_s=model.stall_timeout_s,
        fallbacks=model.fallbacks,
        adapter=model.adapter,
    )


def _built(specs: list[ModelSpec]) -> Models:
    try:
        return build_chat_models(specs, counter=TiktokenCounter())
    except ValueError as error:
        raise SettingsError(f"setting models: {error}") from None


async def start_models(models: Models) -> None:
    """What takes seconds is done before the first question. Raises: SettingsError for a model that nobody knows."""
    try:
        await start_chat_models(models)
    except ValueError as error:
        raise SettingsError(f"setting models: {error}") from None


def build_embedder(settings: Settings) -> Embedder:
    """The configured embedder; nothing is connected yet. Raises: SettingsError."""
    given = settings.embedding
    spec = EmbeddingSpec(
        model=given.model,
        api_base=given.api_base,
        api_key=embedding_key(settings),
        dimensions=given.dimensions,
        ask_dimensions=given.ask_dimensions,
        batch_size=given.batch_size,
        max_batch_tokens=given.max_batch_tokens,
        requests_at_once=given.requests_at_once,
        timeout_s=given.timeout_s,
        adapter=given.adapter,
    )
    try:
        return catalog.build_embedder(spec)
    except ValueError as error:
        raise SettingsError(f"setting embedding.{error}") from None


async def start_embedder(embedder: Embedder) -> None:
    """What takes seconds is done before the first text. Raises: SettingsError for a model that nobody knows."""
    try:
        await catalog.start_embedder(embedder)
    except ValueError as error:
        raise SettingsError(f"setting embedding.model: {error}") from None


def caches_vectors(settings: Settings) -> bool:
    """Whether vectors are kept to be used again: not those of the offline model, which cost next to nothing."""
    return settings.embedding.cache_days > 0 and settings.embedding.model != OFFLINE_EMBEDDING


def build_reranker(settings: Settings) -> Reranker:
    """By features, or the model that is set. Raises: SettingsError."""
    if settings.rerank_model is None:
        return FeatureReranker()
    key = resolve_secret(settings.rerank_api_key, "rerank_api_key")
    if settings.rerank_api_base is not None:
        return ServerReranker(model=settings.rerank_model, api_base=settings.rerank_api_base, api_key=key)
    return LiteLLMReranker(model=settings.rerank_model, api_key=key)


def build_recognizer(settings: Settings) -> Recognizer | None:
    """What makes text of scans, if anything does. Raises: SettingsError."""
    command = settings.worker.ocr_command
    try:
        return CommandRecognizer(command) if command else None
    except ValueError as error:
        raise SettingsError(f"setting worker.ocr_command: {error}") from None
