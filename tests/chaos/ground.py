"""What a run stands on: the program itself, a provider process for each model, one clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.plan import MODELS, TOKENS_PER_S
from tests.provider_server.process import provider_process
from tests.stack import DevStack, running

GOES_ON_BY_PREFILL = {"goes-on": True, "begins-anew": False, "interrupted": True}


@contextmanager
def stack_with_providers(folder: Path) -> Iterator[tuple[DevStack, dict[str, str]]]:
    """`ragline dev` with two edges and two workers, and the address of each model's server.

    Holds after: nothing that was started is alive. Raises: AssertionError if the program did not stop in order.
    """
    with ExitStack() as exits:
        urls = {name: exits.enter_context(provider_process(tokens_per_s=TOKENS_PER_S)) for name in MODELS}
        models = [
            {
                "name": name,
                "model": "openai/test",
                "api_base": url,
                "api_key": "k",
                "prefill": GOES_ON_BY_PREFILL[name],
                "context_tokens": 64_000,
                "max_output_tokens": 16_000,
            }
            for name, url in urls.items()
        ]
        environment = {"RAGLINE_MODELS": json.dumps(models)}
        yield exits.enter_context(running(folder, "--edges", "2", "--workers", "2", env=environment)), urls
