"""Embedding models through litellm: every provider that does not speak OpenAI's protocol itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from providers.litellm_calls import asked, check_is_known, close_connections, load
from providers.ports import ProviderError


class LiteLLMEmbeddings:
    """`EmbeddingApi` over `litellm.aembedding`; litellm's own retries are off. `model` is litellm's name."""

    def __init__(
        self,
        *,
        model: str,
        api_base: str | None = None,
        api_key: str | None = None,
        ask_dimensions: int | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        given = {"api_base": api_base, "api_key": api_key, "dimensions": ask_dimensions}
        self._options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._model, self._timeout_s = model, timeout_s
        self._used = False

    async def start(self) -> None:
        """Imports litellm, off the loop. Raises: ValueError if it does not know whose model it is."""
        await check_is_known(self._model, api_base=self._options.get("api_base"))

    async def ask(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """See `EmbeddingApi.ask`."""
        litellm = await load()
        self._used = True
        parameters = self._options | {
            "model": self._model,
            "input": list(texts),
            "encoding_format": "float",
            "timeout": self._timeout_s,
            "max_retries": 0,
            "num_retries": 0,
            "drop_params": True,
        }
        answer = await asked(lambda: litellm.aembedding(**parameters), self._timeout_s)
        try:
            return [item["embedding"] for item in sorted(answer.data, key=lambda item: int(item["index"]))]
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError("protocol", f"{self._model}: unreadable answer: {error!r}", retryable=True) from None

    async def close(self) -> None:
        """Gives up litellm's connections (they are shared by all its models)."""
        if self._used:
            await close_connections()
