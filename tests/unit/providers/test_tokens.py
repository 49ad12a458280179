from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.tokens import TiktokenCounter

COUNTER = TiktokenCounter()


def test_counts_as_tiktoken_does() -> None:
    import tiktoken

    text = "How does a trace begin? 추적은 어떻게 시작합니까? 😀 <|endoftext|>"
    assert COUNTER.count(text) == len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))
    assert COUNTER.count("") == 0


def test_special_tokens_are_plain_text() -> None:
    assert COUNTER.count("<|endoftext|>") > 1
    assert COUNTER.truncate("<|endoftext|>", 100) == "<|endoftext|>"


@settings(deadline=None)
@given(text=st.text(), n=st.integers(0, 40))
def test_truncate_is_the_longest_prefix_at_a_token(text: str, n: int) -> None:
    from providers.clean_text import clean

    kept = COUNTER.truncate(text, n)
    assert clean(text).startswith(kept)
    assert COUNTER.count(kept) <= n
    if COUNTER.count(text) <= n:
        assert kept == clean(text)


@pytest.mark.parametrize(
    "text", [" " * 1_000_000, "a" * 2_000_000, "\n" * 300_000, "漢字" * 200_000, "ab " * 500_000, "<|x|>" * 100_000]
)
def test_pathological_text_takes_linear_time(text: str) -> None:
    started = time.monotonic()
    n = COUNTER.count(text)
    kept = COUNTER.truncate(text, n // 2)
    assert time.monotonic() - started < 5
    assert n // 2 - 8 <= COUNTER.count(kept) <= n // 2


def test_windows_add_next_to_nothing_for_prose() -> None:
    import tiktoken

    text = "The quick brown fox jumps over the lazy dog, again and again. " * 5_000
    exact = len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))
    assert exact <= COUNTER.count(text) <= exact * 1.001


def test_neither_litellm_nor_the_network_is_needed() -> None:
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from providers.tokens import TiktokenCounter\n"
        "assert TiktokenCounter('cl100k_base').count('hello world') == 2\n"
        "assert 'litellm' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_an_encoding_that_is_not_installed_is_an_error_not_a_download() -> None:
    with pytest.raises(FileNotFoundError, match="not installed"):
        TiktokenCounter("no_such_encoding").count("a")
