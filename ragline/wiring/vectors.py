"""Vectors by the settings. A role that has none does not import this: LanceDB takes a second, and 100 MB."""

from __future__ import annotations

from ragline.settings import Settings
from storage.ports import VectorIndex
from storage.vectors.lance import LanceVectorIndex

LANCE_PATIENCE = {"connect_timeout": "5s", "timeout": "30s", "client_max_retries": "2"}
"""Of one request to S3; Lance itself repeats some of what failed so, up to six times."""


def build_vectors(settings: Settings) -> VectorIndex:
    """LanceDB in a folder or on S3; credentials come from the environment, as boto3's do."""
    options = {"aws_region": settings.s3_region, **LANCE_PATIENCE}
    if settings.s3_endpoint:
        options |= {"aws_endpoint": settings.s3_endpoint, "allow_http": str(settings.s3_endpoint.startswith("http:"))}
    is_s3 = settings.vectors_url.startswith("s3://")
    return LanceVectorIndex(settings.vectors_url, storage_options=options if is_s3 else None)
