"""Blobs and vectors by the settings; what each is made with is imported by the role that uses it."""

from __future__ import annotations

from pathlib import Path

from ragline.settings import Settings
from storage.blobs.local import LocalBlobStore
from storage.ports import BlobStore, VectorIndex

LANCE_PATIENCE = {"connect_timeout": "5s", "timeout": "30s", "client_max_retries": "2"}
"""Of one request to S3; Lance itself repeats some of what failed so, up to six times."""


def build_blobs(settings: Settings) -> BlobStore:
    """Where the documents' bytes are."""
    return blob_store_at(settings, settings.blobs_url)


def blob_store_at(settings: Settings, url: str) -> BlobStore:
    """A folder, or a bucket for `s3://bucket/prefix`."""
    if not url.startswith("s3://"):
        return LocalBlobStore(Path(url))
    from storage.blobs.s3 import S3BlobStore

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3BlobStore(
        bucket=bucket,
        prefix=prefix,
        endpoint_url=settings.s3_endpoint,
        public_endpoint_url=settings.s3_public_endpoint,
        region=settings.s3_region,
    )


def build_vectors(settings: Settings) -> VectorIndex:
    """LanceDB in a folder or on S3; credentials come from the environment, as boto3's do."""
    from storage.vectors.lance import LanceVectorIndex

    options = {"aws_region": settings.s3_region, **LANCE_PATIENCE}
    if settings.s3_endpoint:
        options |= {"aws_endpoint": settings.s3_endpoint, "allow_http": str(settings.s3_endpoint.startswith("http:"))}
    is_s3 = settings.vectors_url.startswith("s3://")
    return LanceVectorIndex(settings.vectors_url, storage_options=options if is_s3 else None)
