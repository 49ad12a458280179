"""The edge looks for a key's records where the producer puts them."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from producers.edge.partitions import partition_of
from schemas.topics import CHAT_CHUNKS


@given(key=st.binary(max_size=50))
def test_it_is_the_producers_partition(key: bytes) -> None:
    all_partitions = list(range(CHAT_CHUNKS.partitions))
    assert partition_of(CHAT_CHUNKS, key) == DefaultPartitioner()(key, all_partitions, all_partitions)
