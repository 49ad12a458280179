"""A wrong setting is one line that names it, and never shows a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.rerankers import LiteLLMReranker, ServerReranker
from ragline.settings import Settings, SettingsError, check_model_keys, load_settings
from ragline.wiring.models import build_embedder, build_reranker, start_embedder
from retrieval.feature_reranker import FeatureReranker

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RAGLINE_EDGE__PORT", "99999", "setting edge.port: Input should be less than or equal to 65535 (got '99999')"),
        ("RAGLINE_MODELS", f'[{{"model": "x", "api_key": "{KEY}"}}]', "setting models.0.name: Field required"),
        ("RAGLINE_MODELS", f'[{{"name": "a", "model": "x", "api_key": ["{KEY}"]}}]', "setting models.0.api_key: "),
        ("RAGLINE_MODELS", f'[{{"name": "a", "model": "x", "api_key": "{KEY}"}}, {{"name": "a", "model": "y"}}]',
         "setting models: every name may stand once"),
        ("RAGLINE_AUXILIARY_MODEL", "b", "setting auxiliary_model: no model is named so; known: none"),
        ("RAGLINE_RERANK_API_BASE", "http://127.0.0.1:1/v1", "setting rerank_model: none is set, so nobody is asked"),
        ("RAGLINE_WORKER__LEASE_S", "inf", "setting worker.lease_s: Input should be less than or equal to 60 (got"),
        ("RAGLINE_WORKER__CHECKPOINT_S", "nan", "setting worker.checkpoint_s: Input should be less than or equal"),
        ("RAGLINE_MODELS", '[{"name": "a", "model": "x", "stall_timeout_s": "inf"}]',
         "setting models.0.stall_timeout_s: Input should be less than or equal to 3600"),
        ("RAGLINE_EMBEDDING__DIMENSIONS", "0", "setting embedding.dimensions: Input should be greater than or equal"),
        ("RAGLINE_EMBEDDING__MODEL", "openai/x", "setting embedding: dimensions: say how long the vectors"),
        ("RAGLINE_EMBEDDING__DIMENSIONS", "64", 'setting embedding: dimensions: "wordllama-256" has 256 (got 64)'),
        ("RAGLINE_PASSAGES__TARGET_TOKENS", "10", "setting passages.target_tokens: Input should be greater"),
        ("RAGLINE_PASSAGES__TARGET_TOKENS", "500",
         "setting passages: target_tokens: at most max_tokens, which is 400 (got 500)"),
        ("RAGLINE_PASSAGES__TENANTS", '{"acme": {"max_tokens": 100}}',
         "setting passages: tenants.acme.target_tokens: at most max_tokens, which is 100 (got 220)"),
        ("RAGLINE_PASSAGES__TENANTS", '{"acme": {"size": 100}}', "setting passages.tenants.acme.size: Extra inputs"),
        *(("RAGLINE_POSTGRES_DSN", f"postgresql://ragline:{password}@postgres:5432/ragline",
           "setting postgres_dsn: it must be as postgresql://")
          for password in (f"{KEY}/x", f"12/{KEY}", f"{KEY}#1", f"12?{KEY}", f"a@{KEY}", f"[{KEY}")),
        ("RAGLINE_POSTGRES_DSN", f"host=postgres password={KEY}", "setting postgres_dsn: it must be as postgresql://"),
        ("RAGLINE_MODELS", f'[{{"api_key": "{KEY}"', "setting models: RAGLINE_MODELS is no JSON (Expecting"),
        ("RAGLINE_MODELS", f'{{"name": "{KEY}"}}', "setting models: Input should be a list"),
        ("RAGLINE_EMBEDDING_MODEL", "x", "environment variable RAGLINE_EMBEDDING_MODEL: there is no such setting"),
        ("RAGLINE_EDGE_PORT", "1", "environment variable RAGLINE_EDGE_PORT: there is no such setting"),
        ("RAGLINE_EDGE__BOGUS", "1", "environment variable RAGLINE_EDGE__BOGUS: there is no such setting"),
    ],
)  # fmt: skip
def test_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(says)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ragline@127.0.0.1:5432/ragline",
        "postgres://ragline:a%2Fb:c+d=@[::1]/ragline?sslmode=require",
        "postgresql://ragline:x@one:5432,two:5432/ragline",
        "postgresql://ragline@/ragline?host=/var/run/postgresql",
        "postgresql://localhost",
    ],
)
def test_an_address_of_postgresql(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_POSTGRES_DSN", dsn)
    assert load_settings().postgres_dsn.get_secret_value() == dsn


def test_the_reranker_is_the_one_that_is_set() -> None:
    by_server = {"rerank_model": "r", "rerank_api_base": "http://127.0.0.1:1/v1"}
    for given, kind in (({}, FeatureReranker), ({"rerank_model": "r"}, LiteLLMReranker), (by_server, ServerReranker)):
        assert type(build_reranker(Settings.model_validate(given))) is kind
    keyless = Settings.model_validate({**by_server, "rerank_api_key": "env:RAGLINE_TEST_NOWHERE"})
    with pytest.raises(SettingsError, match=r"setting rerank_api_key: environment variable .* is not set"):
        check_model_keys(keyless)


def test_a_key_that_is_in_no_variable_names_its_model() -> None:
    models = [{"name": "a", "model": "x"}, {"name": "b", "model": "y", "api_key": "env:RAGLINE_TEST_NOWHERE"}]
    settings = Settings.model_validate({"models": models})
    with pytest.raises(SettingsError, match=r'models\.1\.api_key \(model "b"\): environment variable .* is not set'):
        check_model_keys(settings)
    with pytest.raises(SettingsError, match=r"embedding\.api_key: environment variable .* is not set"):
        check_model_keys(Settings.model_validate({"embedding": {"api_key": "env:RAGLINE_TEST_NOWHERE"}}))


@pytest.mark.parametrize(
    ("embedding", "says"),
    [
        ({"model": "openai/x", "dimensions": 8, "api_base": "localhost:80"},
         'setting embedding.api_base must begin with http:// or https:// (got "localhost:80")'),
        ({"model": "x/y", "dimensions": 8, "adapter": "direct"},
         'setting embedding.adapter "direct" needs an api_base'),
        ({"model": "openai/x", "dimensions": 8, "api_key": "env:RAGLINE_TEST_NOWHERE"},
         "setting embedding.api_key: environment variable RAGLINE_TEST_NOWHERE is not set"),
    ],
)  # fmt: skip
def test_an_embedding_model_that_cannot_work(embedding: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_embedder(Settings.model_validate({"embedding": embedding}))
    assert str(caught.value) == says


async def test_an_embedding_model_that_nobody_knows_ends_the_start() -> None:
    embedder = build_embedder(Settings.model_validate({"embedding": {"model": "nonsense/x", "dimensions": 8}}))
    with pytest.raises(SettingsError, match=r'^setting embedding\.model: litellm knows no provider for "nonsense/x"'):
        await start_embedder(embedder)
