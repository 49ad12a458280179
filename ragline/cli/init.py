"""`ragline init`: what a deployment needs once, before its processes start."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer


def init(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object: api_key, admin_email.")] = False
) -> None:
    """Schema, topics, the tenant `default`, its admin and the first API key. The second time nothing changes.

    The key is kept in HOME/secrets.json and shown each time. Waits for servers that are not there yet.

    Exit codes: 0 done, 1 a setting is wrong, 3 a server did not answer within 20 s.
    """
    from ragline.client.errors import UnreachableError
    from ragline.dev_stack.errors import DevStackError
    from ragline.dev_stack.home import load_secrets
    from ragline.settings import SettingsError, load_settings
    from ragline.wiring.prepare import prepare
    from schemas.errors import Retry

    settings = load_settings()
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        secrets = load_secrets(settings.home)
    except (OSError, DevStackError) as error:
        raise SettingsError(f"setting home: {error}") from None
    preparing = prepare(
        settings,
        admin_email=secrets.admin_email,
        admin_password=secrets.admin_password,
        api_key=secrets.api_key,
    )
    try:
        asyncio.run(preparing)
    except Retry as away:
        addresses = "RAGLINE_KAFKA_BOOTSTRAP and RAGLINE_POSTGRES_DSN"
        raise UnreachableError(f"{away}; is it started, and is its address right ({addresses})?") from None
    if as_json:
        typer.echo(json.dumps({"api_key": secrets.api_key, "admin_email": secrets.admin_email}))
    else:
        typer.echo(f"ready: schema, topics and the tenant default\nAPI key  {secrets.api_key}")
