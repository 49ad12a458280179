"""Blobs by the settings."""

from __future__ import annotations

from pathlib import Path

from ragline.settings import Settings
from storage.blobs.local import LocalBlobStore
from storage.ports import BlobStore


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
