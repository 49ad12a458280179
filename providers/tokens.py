"""Token counts by tiktoken, offline: its BPE files come from litellm's wheel."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from providers.clean_text import clean

if TYPE_CHECKING:
    import tiktoken

_BPE_FILES = {
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}
"""tiktoken's own names for its cached files: the SHA-1 of where it would load them from."""
_WINDOW = 16_384
_LOOK_BACK = 256


class TiktokenCounter:
    """`TokenCounter` over one tiktoken encoding (`o200k_base` or `cl100k_base`), loaded at first use.

    Time grows linearly with the text, whatever it is made of: it is encoded in windows of 16,384
    characters, so a long text may count a token more per window. Special tokens are plain text.
    """

    def __init__(self, encoding: str = "o200k_base") -> None:
        self._name = encoding

    def count(self, text: str) -> int:
        """Tokens of `text`. Raises: FileNotFoundError if the encoding's file is not installed."""
        return sum(len(self._encoding.encode_ordinary(window)) for window in _windows(clean(text)))

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of `text` that ends between tokens and has at most `max_tokens`."""
        text, start, left = clean(text), 0, max(0, max_tokens)
        for window in _windows(text):
            tokens = self._encoding.encode_ordinary(window)
            if len(tokens) > left:
                return text[: start + len(self._shortened(window, tokens, left))]
            start, left = start + len(window), left - len(tokens)
        return text

    def _shortened(self, window: str, tokens: list[int], n_tokens: int) -> str:
        kept = b"".join(self._encoding.decode_tokens_bytes(tokens[:n_tokens])).decode("utf-8", "ignore")
        while len(self._encoding.encode_ordinary(kept)) > n_tokens:
            kept = kept[:-1]  # a character cut in two can leave a piece that needs more tokens
        return kept

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        folder = _bpe_folder()
        if not (folder / _BPE_FILES.get(self._name, "?")).is_file():  # tiktoken would download it
            raise FileNotFoundError(f'tokenizer "{self._name}" is not installed in {folder}')
        # tiktoken finds its files by this variable only; nothing else in the process depends on it.
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        import tiktoken

        return tiktoken.get_encoding(self._name)


def _bpe_folder() -> Path:
    spec = importlib.util.find_spec("litellm")  # finds, does not import: that would take seconds
    if spec is None or spec.origin is None:
        raise FileNotFoundError("litellm is not installed: its wheel carries the tokenizer files")
    return Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"


def _windows(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + _WINDOW
        if end < len(text):
            space = text.rfind(" ", end - _LOOK_BACK, end)
            end = space if space > start else end
        yield text[start:end]
        start = end
