"""Each configured model is asked once: one that answers, one whose key is refused, one that is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from ragline.doctor.findings import Finding, Patient, examine
from ragline.doctor.models import model_groups
from ragline.settings import EmbeddingSettings, ModelSettings, Settings
from tests.provider_server import Behaviour, ProviderServer


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        server.behaviours["refused"] = Behaviour(error_status=401)
        server.behaviours["busy"] = Behaviour(error_status=429)
        yield server


def model(provider: ProviderServer, name: str, **changes: Any) -> ModelSettings:
    return ModelSettings(name=name, model=f"openai/{name}", api_base=provider.url, **changes)


async def found(settings: Settings, *, asks: bool = True) -> dict[str, Finding]:
    patient = Patient(settings, asks_models=asks)
    return {one.name: one for one in await examine(patient, model_groups(settings))}


async def test_models_well_and_ill(provider: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    settings = Settings(
        models=(
            model(provider, "well", fallbacks=("refused",)),
            model(provider, "refused", api_key=SecretStr("sk-not-taken")),
            model(provider, "busy"),
            model(provider, "keyless", api_key=SecretStr("env:NO_SUCH_KEY")),
            ModelSettings(name="gone", model="openai/gone", api_base="http://127.0.0.1:9/v1"),
        ),
        embedding=EmbeddingSettings(model="openai/refused", api_base=provider.url, dimensions=8),
        rerank_model="refused",
        rerank_api_base=provider.url,
    )
    findings = await found(settings)
    assert {name: (one.status, one.remedy) for name, one in findings.items()} == {
        "models.well": ("ok", ""),
        "models.refused": ("wrong", "Set models.1.api_key to a key that the provider takes."),
        "models.busy": (
            "warning", "Wait, or raise the limit at the provider; `fallbacks` name models that answer meanwhile.",
        ),
        "models.keyless": ("wrong", "Set models.3.api_key, or the variable that it names."),
        "models.gone": ("wrong", "Start the model's server, or set models.4.api_base to its address."),
        "embedding": ("wrong", "Set embedding.api_key to a key that the provider takes."),
        "reranker": ("wrong", "Set rerank_api_key to a key that the provider takes."),
    }  # fmt: skip
    assert findings["models.refused"].found.startswith("auth: ")
    assert "NO_SUCH_KEY is not set" in findings["models.keyless"].found
    asked = [one for one in provider.stats.requests if one.get("model") == "well"]
    assert [one["max_tokens"] for one in asked] == [16], "one request, and a small one"


async def test_other_models_than_chat(provider: ProviderServer) -> None:
    settings = Settings(
        embedding=EmbeddingSettings(model="openai/e", api_base=provider.url, dimensions=8),
        rerank_model="r",
        rerank_api_base=provider.url,
    )
    assert {one.status for one in (await found(settings)).values()} == {"ok"}
    longer = settings.model_copy(
        update={"embedding": EmbeddingSettings(model="openai/e", api_base=provider.url, dimensions=9)}
    )
    finding = (await found(longer))["embedding"]
    assert finding.status == "wrong"
    assert "embedding" in finding.remedy


async def test_nobody_is_asked_if_not_wanted(provider: ProviderServer) -> None:
    findings = await found(Settings(models=(model(provider, "well"),)), asks=False)
    assert {one.status for one in findings.values()} == {"skipped"}
    assert provider.stats.calls == 0
