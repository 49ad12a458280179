"""Everything that must stand before the first process: schema, topics, the first tenant."""

from __future__ import annotations

from ragline.settings import Settings
from ragline.wiring.connections import build_database, until_there
from storage.log.producer import LogProducer
from storage.log.topic_admin import apply_topics
from storage.postgres import migrate
from storage.postgres.identity import ensure_first_tenant

PATIENCE_S = 20.0


async def prepare(settings: Settings, *, admin_email: str, admin_password: str, api_key: str) -> None:
    """Migrations, topics, the tenant `default`, its admin and the first key. The second time nothing changes.

    Raises: Retry if a server does not answer within `PATIENCE_S`.
    """
    await until_there(lambda: migrate.upgrade(settings.postgres_dsn.get_secret_value()), within_s=PATIENCE_S)
    await until_there(lambda: apply_topics(settings.kafka_bootstrap), within_s=PATIENCE_S)
    database = build_database(settings, max_connections=2)
    producer = LogProducer(settings.kafka_bootstrap, client_id="ragline-prepare")
    try:
        await until_there(producer.start)
        async with database.transaction() as work:
            records = await ensure_first_tenant(work, email=admin_email, password=admin_password, api_key=api_key)
        await producer.publish_records(records)
    finally:
        await producer.stop()
        await database.close()
