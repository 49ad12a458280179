"""Settings: environment `RAGLINE_…` over `ragline.toml` over defaults. The only reader of the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as ParsingError

from ragline.passage_settings import PassageSettings

OFFLINE_EMBEDDING = "wordllama-256"
PrefillMode = Literal["continue_final_message", "prefix"]
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|DSN", re.IGNORECASE)

_HOST = r"(?:\[[^]@]+\]|[^]:/?#@,[]*)(?::\d+)?"
_POSTGRES_ADDRESS = re.compile(rf"postgres(?:ql)?://(?:[^]/?#@[]*@)?{_HOST}(?:,{_HOST})*(?:/[^@#]*)?")
"""What asyncpg and SQLAlchemy read alike."""


class SettingsError(Exception):
    """A wrong setting; `str(error)` is one line: setting, value, what is allowed."""


class ModelSettings(BaseModel):
    """One model that clients may ask for by `name`; the first of the list is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    model: str = Field(min_length=1, description="litellm's name, as in `openai/gpt-4o-mini`")
    api_base: str | None = None
    api_key: SecretStr | None = Field(default=None, description="the literal key, or `env:NAME`")
    prefill: bool | PrefillMode = False
    context_tokens: int = Field(default=8192, ge=512)
    max_output_tokens: int = Field(default=2048, ge=1)
    input_cost_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    output_cost_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    timeout_s: float = Field(default=120.0, gt=0, le=3600, description="longest wait for the first text of an answer")
    stall_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="longest silence in the middle of an answer"
    )
    fallbacks: tuple[str, ...] = Field(default=(), description="names of models that answer where this one cannot")
    adapter: Literal["auto", "direct", "litellm"] = "auto"


class EmbeddingSettings(BaseModel):
    """The model that turns passages and questions into vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        default=OFFLINE_EMBEDDING,
        min_length=1,
        max_length=200,
        description="`wordllama-256` (offline), or litellm's name, as in `openai/text-embedding-3-small`",
    )
    api_base: str | None = None
    api_key: SecretStr | None = Field(default=None, description="the literal key, or `env:NAME`")
    dimensions: int | None = Field(
        default=None, ge=1, le=16_384, description="length of the model's vectors; required but for the offline model"
    )
    ask_dimensions: bool = Field(
        default=False, description="send `dimensions` along, for models whose vectors can be shortened"
    )
    batch_size: int = Field(default=128, ge=1, le=2048, description="most texts of a request")
    max_batch_tokens: int = Field(default=100_000, ge=1, description="most tokens of a request, about")
    requests_at_once: int = Field(default=4, ge=1, le=1000, description="of one process")
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    cache_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="so long after its last use a vector is kept, so that nothing is paid for twice; 0: not at all;"
        " the offline model needs none",
    )
    adapter: Literal["auto", "direct", "litellm"] = "auto"

    @model_validator(mode="after")
    def _dimensions_are_told(self) -> EmbeddingSettings:
        if self.model == OFFLINE_EMBEDDING and self.dimensions not in (None, 256):
            raise ValueError(f'dimensions: "{self.model}" has 256 (got {self.dimensions})')
        if self.model != OFFLINE_EMBEDDING and self.dimensions is None:
            raise ValueError(f'dimensions: say how long the vectors of "{self.model}" are')
        return self


class EdgeSettings(BaseModel):
    """The HTTP edge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    wait_s: float = Field(default=5.0, ge=0, le=60, description="how long a POST waits for its effect")
    publish_deadline_s: float = Field(
        default=1.8, gt=0, le=30, description="how long Kafka has to acknowledge before the answer is 503"
    )
    max_upload_bytes: int = Field(default=100 * 1024 * 1024, ge=1)
    max_streams: int = Field(default=10_000, ge=1, description="open event streams; more are answered with 503")
    ring_bytes: int = Field(default=32 * 1024 * 1024, ge=1024 * 1024, description="raw chunks kept, per process")


class WorkerSettings(BaseModel):
    """Workers: slots, leases and batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion_slots: int = Field(default=200, ge=1, description="answers written at once by one process")
    document_slots: int = Field(default=2, ge=1)
    lease_s: float = Field(default=3.0, ge=0.5, le=60, description="a dead worker's job is taken over after this long")
    flush_ms: int = Field(default=20, ge=0, le=1000, description="text of all answers leaves once in so long")
    checkpoint_s: float = Field(
        default=1.0, gt=0, le=60, description="the text of a running answer is stored once in so long"
    )
    max_attempts: int = Field(default=5, ge=1)
    ocr_command: tuple[str, ...] = Field(
        default=(), description='as `["ocrmypdf", "{input}", "{output}"]`; default: scans fail with `no_text_layer`'
    )
    batch_records: int = Field(default=500, ge=1, le=10_000)
    session_timeout_ms: int = Field(default=6000, ge=1000)


class LimitSettings(BaseModel):
    """What each tenant may have at once. The tenant `default`, whose first key `ragline init` makes, has no limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    running_completions: int = Field(
        default=50,
        ge=1,
        description="answers of one tenant that are written at once, by all workers together, but for `default`",
    )
    waiting_completions: int = Field(
        default=1000,
        ge=1,
        description="answers of one tenant that may wait to be begun; beyond, a message is a 429, but for `default`",
    )
    waiting_documents: int = Field(
        default=1000,
        ge=1,
        description="documents of one tenant that may wait to be learnt; beyond, an upload is a 429, but for `default`",
    )


class TelemetrySettings(BaseModel):
    """What processes tell of themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="where a worker or a relay serves `/metrics` and `/health`; 0: nowhere. An edge"
        " serves them on its own port; `ragline dev` gives this one to its relay and the next ones to its workers",
    )
    metrics_host: str = Field(default="127.0.0.1", description="the address that `metrics_port` is of")
    otlp_endpoint: str = Field(
        default="",
        pattern="^(https?://.+)?$",
        description="a collector's address for traces over OTLP/HTTP, as `http://127.0.0.1:4318`; default: no traces",
    )
    trace_ratio: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="part of the requests that are traced; one that comes with a `traceparent` says so itself",
    )
    sentry_dsn: SecretStr | None = Field(
        default=None,
        description="where errors are reported to in Sentry's protocol, or `env:NAME`; default: nowhere",
    )


class ClientSettings(BaseModel):
    """The commands that talk to a running Ragline: `ask` and `upload`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(
        default=None, description="an edge's address; default: the `ragline dev` of HOME, else http://127.0.0.1:8080"
    )
    api_key: SecretStr | None = Field(
        default=None, description="the key, or `env:NAME`; default: the key of the `ragline dev` of HOME"
    )


class Settings(BaseSettings):
    """Every setting of every process, with its default."""

    model_config = SettingsConfigDict(
        env_prefix="RAGLINE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Path(".ragline")
    kafka_bootstrap: str = "127.0.0.1:9092"
    postgres_dsn: SecretStr = SecretStr("postgresql://ragline@127.0.0.1:5432/ragline")
    blobs: str = Field(default="", description="folder or s3://bucket/prefix; default HOME/blobs")
    vectors: str = Field(default="", description="folder or s3://bucket/prefix; default HOME/vectors")
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_public_endpoint: str | None = Field(
        default=None,
        description="where clients reach the S3 store of `blobs`: downloads are sent there by addresses that hold for"
        " five minutes; default: they pass through the edge",
    )
    models: tuple[ModelSettings, ...] = ()
    auxiliary_model: str | None = Field(
        default=None,
        description="name of a model that rewrites follow-up questions for the search; default: a rule does",
    )
    embedding: EmbeddingSettings = EmbeddingSettings()
    passages: PassageSettings = PassageSettings()
    rerank_model: str | None = Field(
        default=None,
        description="litellm's name (`cohere/rerank-v3.5`), or what the server at `rerank_api_base` calls it;"
        " default: reranking by features, without a model",
    )
    rerank_api_base: str | None = Field(
        default=None, description="a server with `POST /rerank` as Cohere and Jina have"
    )
    rerank_api_key: SecretStr | None = Field(default=None, description="the key, or `env:NAME`")
    edge: EdgeSettings = EdgeSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: LimitSettings = LimitSettings()
    client: ClientSettings = ClientSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = Field(
        default="text", description="`json`: an object a line, with trace ids and without content"
    )

    @field_validator("postgres_dsn")
    @classmethod
    def _is_an_address(cls, dsn: SecretStr) -> SecretStr:
        if _POSTGRES_ADDRESS.fullmatch(dsn.get_secret_value()) is None:
            raise ValueError(
                "it must be as postgresql://user:password@host:5432/database; what a password has beside letters and"
                " digits is written in percent, as %2F for /"
            )
        return dsn

    @model_validator(mode="after")
    def _names_are_known(self) -> Settings:
        names = [m.name for m in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models: every name may stand once")
        if self.auxiliary_model is not None and self.auxiliary_model not in names:
            raise ValueError(f"auxiliary_model: no model is named so; known: {', '.join(names) or 'none'}")
        if self.rerank_model is None and (self.rerank_api_base is not None or self.rerank_api_key is not None):
            raise ValueError("rerank_model: none is set, so nobody is asked at rerank_api_base")
        for number, model in enumerate(self.models):
            others = [name for name in names if name != model.name]
            if len(set(model.fallbacks)) < len(model.fallbacks) or not set(model.fallbacks) <= set(others):
                given, known = ", ".join(model.fallbacks), ", ".join(others) or "none"
                raise ValueError(f"models.{number}.fallbacks: other models, each once (got {given}); known: {known}")
        return self

    @property
    def blobs_url(self) -> str:
        """Where blobs live: a folder's path or `s3://bucket/prefix`."""
        return self.blobs or str(self.home / "blobs")

    @property
    def vectors_url(self) -> str:
        """Where LanceDB lives: a folder's path or `s3://bucket/prefix`."""
        return self.vectors or str(self.home / "vectors")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over ragline.toml over defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_toml_file())


def _toml_file() -> Path | None:
    home = Path(os.environ.get("RAGLINE_HOME", ".ragline"))
    return next((p for p in (Path("ragline.toml"), home / "ragline.toml") if p.is_file()), None)


def load_settings(**overrides: Any) -> Settings:
    """The effective settings. Raises: SettingsError with one line for a person."""
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_told(error)) from None
    except ParsingError as error:
        name = str(error).partition('field "')[2].partition('"')[0]
        where = f"setting {name}: RAGLINE_{name.upper()}" if name else "the environment"
        raise SettingsError(f"{where} is no JSON ({error.__cause__}); see docs/settings.md") from None
    except (ValueError, OSError) as error:
        raise SettingsError(f"ragline.toml or the environment cannot be read: {error}") from None


@dataclass(frozen=True)
class SettingSources:
    """What environment and `ragline.toml` say, each as a tree of settings."""

    environment: dict[str, Any]
    toml: dict[str, Any]
    toml_file: Path | None


def setting_sources() -> SettingSources:
    """Where the effective settings come from. Call it after `load_settings`, which tells of what is wrong."""
    toml_file = _toml_file()
    return SettingSources(
        environment=EnvSettingsSource(Settings)(),
        toml=TomlConfigSettingsSource(Settings, toml_file=toml_file)(),
        toml_file=toml_file,
    )


def _refuse_unknown_variables() -> None:
    """pydantic-settings passes over variables that are no setting, as `RAGLINE_EDGE_PORT` for `RAGLINE_EDGE__PORT`."""
    for variable in sorted(os.environ):
        if not variable.startswith("RAGLINE_"):
            continue
        section, _, rest = variable.removeprefix("RAGLINE_").lower().partition("__")
        field = Settings.model_fields.get(section)
        names = getattr(field.annotation, "model_fields", None) if field is not None else None
        if field is None or (rest and names is not None and rest not in names):
            raise SettingsError(f"environment variable {variable}: there is no such setting; see `ragline settings`")


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    if not first["loc"]:  # a rule over several settings: its message names them
        return f"setting {message}"
    where, given = ".".join(str(part) for part in first["loc"]), first.get("input")
    is_shown = isinstance(given, str | int | float | bool) and not any(
        re.search("key|dsn", str(part)) for part in first["loc"]
    )
    return f"setting {where}: {message}" + (f" (got {_shown(given)})" if is_shown else "")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def check_model_keys(settings: Settings) -> None:
    """Every model's key is there, the embedding model's too. Raises: SettingsError that names the model."""
    for n in range(len(settings.models)):
        model_key(settings, n)
    embedding_key(settings)
    resolve_secret(settings.rerank_api_key, "rerank_api_key")


def model_key(settings: Settings, n: int) -> str | None:
    """The key of the n-th model. Raises: SettingsError."""
    model = settings.models[n]
    return resolve_secret(model.api_key, f'models.{n}.api_key (model "{model.name}")')


def embedding_key(settings: Settings) -> str | None:
    """The key of the embedding model. Raises: SettingsError."""
    return resolve_secret(settings.embedding.api_key, "embedding.api_key")


def resolve_secret(value: SecretStr | None, setting: str) -> str | None:
    """The secret itself; `env:NAME` names an environment variable. Raises: SettingsError if that is unset."""
    if value is None:
        return None
    text = value.get_secret_value()
    if not text.startswith("env:"):
        return text
    name = text.removeprefix("env:")
    if name not in os.environ:
        raise SettingsError(f"setting {setting}: environment variable {name} is not set")
    return os.environ[name]


def secrets_in_environment() -> list[str]:
    """Values of the variables whose names say that they are secret, whoever reads them: none may leave this machine."""
    return [value for name, value in os.environ.items() if value and _SECRET.search(name)]
