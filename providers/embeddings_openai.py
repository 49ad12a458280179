"""Servers with OpenAI's `POST {api_base}/embeddings`."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import msgspec

from providers.failures import from_response
from providers.ports import ProviderError


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int


class _Answer(msgspec.Struct):
    data: list[_Item]


class OpenAIEmbeddings:
    """`EmbeddingApi` of such a server; `model` is the name that it knows.

    `ask_dimensions` is sent along, for models whose vectors can be shortened.
    """

    def __init__(
        self,
        *,
        model: str,
        api_base: str,
        api_key: str | None = None,
        ask_dimensions: int | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        if not api_base.startswith(("http://", "https://")):
            raise ValueError(f'api_base must begin with http:// or https:// (got "{api_base}")')
        self._url = api_base.rstrip("/") + "/embeddings"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._options: dict[str, object] = {"model": model, "encoding_format": "float"}
        self._options |= {} if ask_dimensions is None else {"dimensions": ask_dimensions}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Nothing takes seconds here."""

    async def ask(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """See `EmbeddingApi.ask`."""
        body = self._options | {"input": list(texts)}
        try:
            async with self._open_session().post(self._url, json=body, headers=self._headers) as response:
                data = await response.read()
                if response.status != 200:
                    raise from_response(response.status, response.headers, data)
        except TimeoutError:
            raise ProviderError("timeout", f"{self._url}: no answer in {self._timeout_s:g} s", retryable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderError("connection_lost", f"connection to {self._url}: {error}", retryable=True) from None
        return self._in_order(data, len(texts))

    async def close(self) -> None:
        """Gives up connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _in_order(self, data: bytes, n_texts: int) -> list[list[float]]:
        try:
            items = sorted(msgspec.json.decode(data, type=_Answer).data, key=lambda item: item.index)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderError("protocol", f"{self._url}: unreadable answer: {error}", retryable=True) from None
        if [item.index for item in items] != list(range(n_texts)):
            raise ProviderError("protocol", f"{self._url}: {len(items)} vectors for {n_texts} texts", retryable=True)
        return [item.embedding for item in items]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=10)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session
