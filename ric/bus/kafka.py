"""The twin bus on Apache Kafka: kafka-python's blocking clients in threads, behind the async `Bus` interface."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors

from ric.bus.kafka_clients import FROM_START, POLL_MS, KafkaSettings, Producer, Reader, message_of
from ric.bus.messages import (
    COMPACTED_TOPICS,
    MAX_RECORD_OCTETS,
    RIC_ALARMS,
    RIC_DECISIONS,
    TOPICS,
    TWIN_ACK,
    URGENT_TOPICS,
    BusMessage,
    Inbox,
    Outgoing,
    check_message,
    check_resumable,
)
from ric.config import load_config
from ric.errors import TwinRicError
from ric.telemetry import Metrics

__all__ = ["KafkaBus", "KafkaSettings"]

Result = TypeVar("Result")

DAY_MS = 24 * 3600 * 1000
FRAME_OCTETS = 64 * 1024
BATCH_OCTETS = 1024 * 1024
PROBE_S = 0.5

_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(600_000),
    "max.compaction.lag.ms": str(3_600_000),
    "delete.retention.ms": str(DAY_MS),
}
_RETENTION_MS = {TWIN_ACK: DAY_MS, RIC_DECISIONS: 7 * DAY_MS, RIC_ALARMS: 30 * DAY_MS}


class KafkaBus:
    """`kafka://`: acknowledged by all in-sync replicas, idempotent producers, alarms through one of their own.

    Followers of one bus use no consumer group: each reads all partitions from the position at which it began, and
    continues there after a loss of connection. A slow follower makes its reader pause, nobody else's.
    """

    def __init__(self, servers: Sequence[str], metrics: Metrics, settings: KafkaSettings, *, client_id: str) -> None:
        self._servers = list(servers)
        self._metrics = metrics
        self._settings = settings
        self._client_id = client_id
        self._producers: dict[str, Producer] = {}
        self._ends: KafkaConsumer | None = None
        self._ends_lock = threading.Lock()
        self._stopping = threading.Event()
        self._readers: list[Reader] = []

    @classmethod
    def at(cls, url: str, metrics: Metrics, *, client_id: str, environ: Mapping[str, str] | None = None) -> KafkaBus:
        """The bus at `kafka://host:port[,host:port]`, settings from the environment. Raises TwinRicError CONFIG-*."""
        servers = url.removeprefix("kafka://").split(",")
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise TwinRicError("CONFIG-RANGE", "bus_url", url, "kafka://host:port[,host:port]")
        settings = load_config(KafkaSettings, None, "TWINRIC_KAFKA", os.environ if environ is None else environ)
        return cls(servers, metrics, settings, client_id=client_id)

    def _options(self, **more: Any) -> dict[str, Any]:
        connect_ms = int(self._settings.connect_timeout_s * 1e3)
        return {
            "bootstrap_servers": self._servers,
            "client_id": self._client_id,
            "bootstrap_timeout_ms": connect_ms,
            "request_timeout_ms": 10_000,
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1_000,
            **self._settings.client_options(),
            **more,
        }

    def _consumer(self, **more: Any) -> KafkaConsumer:
        return KafkaConsumer(
            **self._options(
                group_id=None,
                enable_auto_commit=False,
                # A broker that lost records (offset out of range) makes us read too much, never too little.
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                metadata_max_age_ms=60_000,
                fetch_max_wait_ms=POLL_MS,
                max_partition_fetch_bytes=MAX_RECORD_OCTETS + FRAME_OCTETS,
                **more,
            )
        )

    def _name(self, topic: str) -> str:
        return self._settings.topic_prefix + topic

    # Life cycle -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, make the topics that are missing. Raises TwinRicError BUS-UNREACHABLE, CONFIG-*."""
        # The client logs every attempt at every broker; what matters of it is logged here, once.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._stopping.clear()
        await self._blocking(self._connect)

    def _connect(self) -> None:
        self._wait_for_broker()
        self._make_topics()
        self._ends = self._consumer()
        for topic in TOPICS:
            self._partitions(topic)
        state_topics = [topic for topic in TOPICS if topic not in URGENT_TOPICS]
        for name, topics in (("state", state_topics), ("alarms", sorted(URGENT_TOPICS))):
            client = KafkaProducer(
                **self._options(
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    batch_size=BATCH_OCTETS,
                    max_request_size=MAX_RECORD_OCTETS + FRAME_OCTETS,
                    max_block_ms=int(self._settings.publish_timeout_s * 1e3),
                    delivery_timeout_ms=60_000,
                    allow_auto_create_topics=False,
                )
            )
            for topic in topics:
                client.partitions_for(self._name(topic))
            self._producers[name] = Producer(client, name, self._settings.publish_timeout_s)

    def _wait_for_broker(self) -> None:
        """Return once some broker accepts a connection: a client made before that cannot be closed cleanly."""
        limit_s = time.monotonic() + self._settings.connect_timeout_s
        while True:
            for server in self._servers:
                host, _, port = server.rpartition(":")
                try:
                    socket.create_connection((host, int(port)), timeout=PROBE_S).close()
                except OSError as error:
                    fault = error
                else:
                    return
            if time.monotonic() > limit_s or self._stopping.wait(PROBE_S):
                raise fault

    def _make_topics(self) -> None:
        """Make the missing topics; a broker that forbids it must have them all."""
        admin = KafkaAdminClient(**self._options())
        try:
            missing = set(TOPICS) - {name.removeprefix(self._settings.topic_prefix) for name in admin.list_topics()}
            wanted = {self._name(topic): self._topic_options(topic) for topic in sorted(missing)}
            if wanted:
                try:
                    admin.create_topics(wanted, wait_for_metadata=True)
                except kafka_errors.TopicAlreadyExistsError:
                    # Another app was faster with some of them.
                    for name, options in wanted.items():
                        self._make_topic(admin, name, options)
                    admin.wait_for_topics(list(wanted))
        finally:
            admin.close()

    @staticmethod
    def _make_topic(admin: KafkaAdminClient, name: str, options: dict[str, Any]) -> None:
        try:
            admin.create_topics({name: options})
        except kafka_errors.TopicAlreadyExistsError:
            return

    def _topic_options(self, topic: str) -> dict[str, Any]:
        compacted = topic in COMPACTED_TOPICS
        configs = dict(_COMPACTED) if compacted else {"retention.ms": str(_RETENTION_MS[topic])}
        configs["max.message.bytes"] = str(MAX_RECORD_OCTETS + FRAME_OCTETS)
        partitions = self._settings.partitions if compacted else 1
        return {
            "num_partitions": partitions,
            "replication_factor": self._settings.replication_factor,
            "configs": configs,
        }

    async def stop(self) -> None:
        """Flush, close, end all iterators."""
        self._stopping.set()
        producers, self._producers = list(self._producers.values()), {}
        readers, self._readers = self._readers, []
        ends, self._ends = self._ends, None

        def close() -> None:
            for producer in producers:
                producer.close()
            for reader in readers:
                reader.join()
            if ends is not None:
                ends.close()

        await asyncio.to_thread(close)

    async def _blocking(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.to_thread(self._translated, work, *arguments)

    def _translated(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """What `work` returns; a client's failure becomes TwinRicError BUS-UNREACHABLE."""
        try:
            return work(*arguments)
        except (kafka_errors.KafkaError, OSError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> TwinRicError:
        where = "kafka://" + ",".join(self._servers)
        remedy = f"Check the address and TWINRIC_KAFKA__*; the client said {type(error).__name__}."
        return TwinRicError("BUS-UNREACHABLE", "bus", where, "a Kafka broker that answers", remedy)

    # Publish --------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Return once the in-sync replicas hold the record. Raises BUS-UNREACHABLE, BUS-RANGE, LIMIT-SIZE.

        While the broker is away a publication fails after DOWN_WAIT_S, so that control loops keep their budgets; the
        client goes on trying for a minute and delivers in order.
        """
        await self.publish_many(topic, (Outgoing(key, value, headers),))

    async def publish_many(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Return once the in-sync replicas hold all of them; the order per key is kept. Raises as `publish` does."""
        for key, value, _ in records:
            check_message(topic, key, value)
        producer = self._producers.get("alarms" if topic in URGENT_TOPICS else "state")
        if producer is None:
            raise self._unreachable(RuntimeError("not started"))
        if not records:
            return
        try:
            await producer.send(self._name(topic), records)
        except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        self._metrics.count_message("bus", "out", len(records))

    # Read -----------------------------------------------------------------------------------------------------

    def _partitions(self, topic: str) -> list[TopicPartition]:
        """All partitions of `topic`; called with `_ends` to itself."""
        if self._ends is None:
            raise kafka_errors.KafkaConnectionError("not started")
        numbers = self._ends.partitions_for_topic(self._name(topic))
        if not numbers:
            raise kafka_errors.UnknownTopicOrPartitionError(topic)
        return [TopicPartition(self._name(topic), number) for number in sorted(numbers)]

    def _end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        with self._ends_lock:
            partitions = [partition for topic in topics for partition in self._partitions(topic)]
            ends: dict[TopicPartition, int] = self._ends.end_offsets(partitions, timeout_ms=5_000)  # type: ignore[union-attr]
        return ends

    def follow(self, topics: Sequence[str], *, from_start: bool = False) -> AsyncIterator[BusMessage]:
        """Records from now on, or what the topics hold and then on. Raises BUS-UNREACHABLE, BUS-RANGE.

        Asks the broker for its end offsets, so it blocks for one round trip; meant for start-up.
        """
        for topic in topics:
            check_message(topic, "-", b"")
        inbox = Inbox()
        groups = [[topic for topic in topics if (topic in URGENT_TOPICS) is urgent] for urgent in (True, False)]
        for group in groups:
            if not group:
                continue
            positions = self._translated(self._end_offsets, group)
            if from_start:
                positions = dict.fromkeys(positions, FROM_START)
            self._read_into(inbox, positions)
        return inbox

    def resume(self, topic: str, after: int) -> AsyncIterator[BusMessage]:
        """Records after position `after`; from the oldest where that is gone. Raises BUS-UNREACHABLE, BUS-RANGE."""
        check_resumable(topic)
        inbox = Inbox()
        with self._ends_lock:
            partitions = self._translated(self._partitions, topic)
        self._read_into(inbox, dict.fromkeys(partitions, after + 1))
        return inbox

    def _read_into(self, inbox: Inbox, positions: dict[TopicPartition, int]) -> None:
        reader = Reader(self._consumer, positions, inbox, self._stopping, self._settings.topic_prefix)
        self._readers = [other for other in self._readers if other.is_alive()] + [reader]
        reader.start()

    async def latest(self, topic: str) -> dict[str, BusMessage]:
        """The newest record per key of a compacted topic, up to the end as it is now. Raises BUS-UNREACHABLE."""
        if topic not in COMPACTED_TOPICS:
            raise TwinRicError("BUS-RANGE", "topic", topic, f"one of {', '.join(COMPACTED_TOPICS)}")
        return await self._blocking(self._read_to_end, topic)

    def _read_to_end(self, topic: str) -> dict[str, BusMessage]:
        ends = self._end_offsets([topic])
        newest: dict[str, BusMessage] = {}
        if not any(ends.values()):
            return newest
        consumer = self._consumer()
        try:
            consumer.assign(list(ends))
            consumer.seek_to_beginning(*ends)
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                if self._stopping.is_set():
                    raise kafka_errors.KafkaConnectionError("stopping")
                for partition, records in consumer.poll(timeout_ms=POLL_MS).items():
                    for record in records:
                        if record.offset < ends[partition] and record.value is not None:
                            message = message_of(record, topic)
                            newest[message.key] = message
        finally:
            consumer.close()
        return newest
