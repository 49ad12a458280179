"""Which partition a key's records are in, before the first of them is seen."""

from __future__ import annotations

from schemas.topics import Topic

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF


def partition_of(topic: Topic, key: bytes) -> int:
    """Where the producer's default partitioner puts `key` (murmur2, as in Kafka's Java client)."""
    return (_murmur2(key) & 0x7FFFFFFF) % topic.partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    n_whole = len(data) // 4 * 4
    h = (0x9747B28C ^ len(data)) & _MASK
    for i in range(0, n_whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = data[n_whole:]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)
