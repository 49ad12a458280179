"""A test server that speaks OpenAI's protocols of chat completions and embeddings, well or badly, as it is told.

`python -m tests.provider_server --port 9000`, or `async with ProviderServer() as server` in a test.
How it behaves: `behaviour.Behaviour`. Three ways to say it, the later wins:
`POST /control` with `{"model": "*" or a name, "set": {…}}`; a model named `any?n_tokens=50&drop_after=5`;
`[[n_tokens=50 drop_after=5]]` in the last user message. `GET /stats` tells what happened.
"""

from tests.provider_server.behaviour import Behaviour, answer_text, answer_tokens
from tests.provider_server.server import ProviderServer

__all__ = ["Behaviour", "ProviderServer", "answer_text", "answer_tokens"]
