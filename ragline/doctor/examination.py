"""Which checks there are."""

from __future__ import annotations

from ragline.doctor.collector import collector
from ragline.doctor.disk import disk
from ragline.doctor.edges import edges
from ragline.doctor.findings import Group
from ragline.doctor.kafka import REMEDY as KAFKA_REMEDY
from ragline.doctor.kafka import dead_letters, kafka
from ragline.doctor.machine import machine
from ragline.doctor.models import model_groups
from ragline.doctor.postgres import REMEDY as POSTGRES_REMEDY
from ragline.doctor.postgres import postgres
from ragline.doctor.stores import BLOBS_REMEDY, VECTORS_REMEDY, blobs, vectors
from ragline.settings import Settings


def groups(settings: Settings) -> list[Group]:
    """Every group of checks for these settings."""
    return [
        Group("machine", machine, ""),
        Group("disk", disk, "Set RAGLINE_HOME to a folder that answers."),
        Group("kafka", kafka, KAFKA_REMEDY),
        Group("postgres", postgres, POSTGRES_REMEDY),
        Group("dead_letters", dead_letters, "See `ragline dlq stats`."),
        Group("blobs", blobs, BLOBS_REMEDY),
        Group("vectors", vectors, VECTORS_REMEDY),
        *model_groups(settings),
        Group("edges", edges, "Start `ragline edge`."),
        Group("collector", collector, "Start the collector."),
    ]
