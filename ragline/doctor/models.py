"""Models: one tiny request to each that is configured."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from providers.ports import Candidate, ChatMessage, ChatModel, ChatRequest, Finished, ProviderError
from ragline.doctor.findings import Finding, Group, Patient
from ragline.settings import Settings, SettingsError
from ragline.wiring.doctor import embedder_of, model_of, reranker_of

ANSWER_TOKENS = 16
WITHIN_S = 40.0
_TEXT = "Say: OK"
_REMEDIES = {
    "auth": "Set {}api_key to a key that the provider takes.",
    "bad_request": "Set {}model as the provider calls it.",
    "rate_limited": "Wait, or raise the limit at the provider; `fallbacks` name models that answer meanwhile.",
    "overloaded": "Wait; `fallbacks` name models that answer meanwhile.",
}
_UNREACHED = "Start the model's server, or set {}api_base to its address."


def model_groups(settings: Settings) -> list[Group]:
    """A group for each chat model, one for the embedding model, one for the reranker."""
    if not settings.models:
        return [Group("models", _offline, ""), *_others()]
    chat = [_group(f"models.{model.name}", f"models.{n}.", _chat(n)) for n, model in enumerate(settings.models)]
    return [*chat, *_others()]


def _others() -> list[Group]:
    return [_group("embedding", "embedding.", _embed), _group("reranker", "rerank_", _rerank)]


async def _offline(_: Patient) -> AsyncGenerator[Finding, None]:
    yield Finding("models", "ok", "none is configured: the offline answerer picks sentences of the documents")


def _group(name: str, setting: str, ask: Callable[[Settings], Awaitable[str]]) -> Group:
    async def look(patient: Patient) -> AsyncGenerator[Finding, None]:
        if not patient.asks_models:
            yield Finding(name, "skipped", "not asked (--no-models)")
            return
        began_s = time.monotonic()
        try:
            found = await ask(patient.settings)
        except SettingsError as error:
            yield Finding(name, "wrong", str(error), f"Set {setting}api_key, or the variable that it names.")
        except ProviderError as error:
            passes = error.code in {"rate_limited", "overloaded"}
            remedy = _REMEDIES.get(error.code, _UNREACHED).format(setting)
            yield Finding(name, "warning" if passes else "wrong", f"{error.code}: {error.detail}", remedy)
        else:
            yield Finding(name, "ok", f"{found}, {time.monotonic() - began_s:.1f} s")

    return Group(name, look, _UNREACHED.format(setting), within_s=WITHIN_S)


def _chat(n: int) -> Callable[[Settings], Awaitable[str]]:
    async def ask(settings: Settings) -> str:
        async with model_of(settings, n) as model:
            return await _answer(model)

    return ask


async def _answer(model: ChatModel) -> str:
    n_tokens = None
    request = ChatRequest(messages=(ChatMessage("user", _TEXT),), question=_TEXT, max_tokens=ANSWER_TOKENS)
    async for piece in model.stream(request):
        if isinstance(piece, Finished):
            n_tokens = piece.output_tokens
    return f"answered with {'some' if n_tokens is None else n_tokens} tokens"


async def _embed(settings: Settings) -> str:
    async with embedder_of(settings) as embedder:
        vectors = await embedder.embed([_TEXT])
        return f"{embedder.model}: a vector of {vectors.shape[1]} dimensions"


async def _rerank(settings: Settings) -> str:
    async with reranker_of(settings) as reranker:
        await reranker.rerank(_TEXT, [Candidate("OK"), Candidate("No")])
        return f"{reranker.name}: two passages have scores"
