"""Keys stay where Kafka's own partitioner puts them, whoever publishes."""

from __future__ import annotations

from kafka.partitioner.default import DefaultPartitioner

from ric.bus.kafka_clients import MAX_KEYS, _Partitions


class Cluster:
    """A cluster with one topic."""

    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, _: str) -> set[int]:
        return self._partitions

    available_partitions_for_topic = partitions_for_topic


def test_remembered_partitions_are_those_of_the_default_partitioner() -> None:
    partitions, default = _Partitions(), DefaultPartitioner()
    for number in (1, 3, 7):
        partition_of = partitions.of("t", set(range(number)))
        for key in (b"", b"a", *(b"slice/n%05d" % n for n in range(500))):
            expected = default.partition("t", key, key, None, None, Cluster(number))
            assert partition_of(key) == expected == partition_of(key)


def test_unknown_partitions_are_left_to_the_client() -> None:
    assert _Partitions().of("t", None)(b"key") is None


def test_memory_of_keys_is_bounded() -> None:
    partitions = _Partitions()
    partition_of = partitions.of("t", {0, 1})
    partitions._known["t", 2].update({b"%d" % n: 0 for n in range(MAX_KEYS + 1)})
    assert partitions.of("t", {0, 1})(b"key") in (0, 1)
    assert len(partitions._known["t", 2]) == 1
    assert partition_of(b"key") in (0, 1)
