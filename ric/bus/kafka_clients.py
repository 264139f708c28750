"""What the Kafka bus is made of: its settings, and kafka-python's blocking clients with a thread each."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.partitioner.default import murmur2
from pydantic import Field

from ric.bus.messages import BusMessage, Inbox, Outgoing
from ric.config import FrozenModel
from ric.errors import TwinRicError
from ric.telemetry import logger

__all__ = ["KafkaSettings", "Producer", "Reader", "message_of"]

DOWN_WAIT_S = 0.05
POLL_MS = 200
RETRY_S = 0.5
ROOM_S = 0.01
FROM_START = -1
MAX_KEYS = 200_000


class KafkaSettings(FrozenModel):
    """How to reach and trust the brokers; read from `TWINRIC_KAFKA__<KEY>`. Secrets are read from files."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """SSL and SASL_SSL encrypt; the others are for a broker on this host."""
    ca_file: Path | None = None
    """Certificates of the authority that signed the brokers' certificates (PEM)."""
    certificate_file: Path | None = None
    """This client's certificate for mutual TLS (PEM)."""
    key_file: Path | None = None
    """Its private key (PEM)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How a SASL client proves who it is."""
    sasl_username: str = ""
    """SASL user name."""
    sasl_password_file: Path | None = None
    """File that holds the SASL password."""
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    """Put before every topic name, so that several systems can share a broker."""
    partitions: int = Field(default=3, ge=1, le=256)
    """Partitions of the twin topics when they are made; a twin's records stay in one."""
    replication_factor: int = Field(default=-1, ge=-1, le=16)
    """Copies of each topic when it is made; -1 takes the broker's default."""
    connect_timeout_s: float = Field(default=20.0, gt=0, le=600)
    """How long `start` waits for a broker [s]."""
    publish_timeout_s: float = Field(default=2.0, gt=0, le=60)
    """How long one publication may take [s] before it counts as failed; it may still arrive."""

    def client_options(self) -> dict[str, Any]:
        """kafka-python's options. Raises TwinRicError CONFIG-MISSING for what the protocol needs and lacks."""
        options: dict[str, Any] = {"security_protocol": self.security_protocol}
        if "SSL" in self.security_protocol:
            for key, option in (("ca_file", "cafile"), ("certificate_file", "certfile"), ("key_file", "keyfile")):
                path = getattr(self, key)
                if path is not None:
                    options[f"ssl_{option}"] = str(_readable(key, path))
        if self.security_protocol.startswith("SASL"):
            if self.sasl_password_file is None or not self.sasl_username:
                raise TwinRicError(
                    "CONFIG-MISSING",
                    "sasl_username, sasl_password_file",
                    "(absent)",
                    "both for " + self.security_protocol,
                )
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            path = _readable("sasl_password_file", self.sasl_password_file)
            options["sasl_plain_password"] = path.read_text(encoding="utf-8").strip()
        return options


def _readable(field: str, path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise TwinRicError("CONFIG-MISSING", field, str(path), "a readable file")
    return path


class _Headers(Mapping[str, str]):
    """Headers as they came, decoded when somebody looks: most readers never do."""

    def __init__(self, pairs: Sequence[tuple[str, bytes | None]]) -> None:
        self._pairs = pairs

    def _decoded(self) -> dict[str, str]:
        return {name: (octets or b"").decode(errors="replace") for name, octets in self._pairs}

    def __getitem__(self, name: str) -> str:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._decoded() == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as of every mapping


def message_of(record: ConsumerRecord, topic: str) -> BusMessage:
    """A consumed record as the bus sees it; octets that are no text are shown as such, and refused by the reader."""
    key = (record.key or b"").decode(errors="replace")
    return BusMessage(topic, key, record.value, _Headers(record.headers), record.offset)


class _Partitions:
    """Where Kafka's default partitioner puts a key, remembered: working it out costs as much as sending."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], dict[bytes, int]] = {}

    def of(self, topic: str, partitions: Set[int] | None) -> Callable[[bytes], int | None]:
        """A function from key to partition of `topic`; to None where its partitions are not known."""
        numbers = sorted(partitions or ())
        if not numbers:
            return lambda _: None
        known = self._known.setdefault((topic, len(numbers)), {})
        if len(known) > MAX_KEYS:
            known.clear()

        def partition_of(key: bytes) -> int:
            number = known.get(key)
            if number is None:
                number = known[key] = numbers[(murmur2(key) & 0x7FFFFFFF) % len(numbers)]
            return number

        return partition_of


class Producer:
    """One KafkaProducer with its own sending thread, which keeps the order of the callers.

    `down` is true from the first failure until any record is acknowledged again.
    """

    def __init__(self, client: KafkaProducer, name: str, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{name}")
        self._log = logger("kafka_bus").bind(producer=name)
        self._partitions = _Partitions()
        self.down = False

    async def send(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Return once all are acknowledged. Raises kafka_errors.KafkaError, TimeoutError (they may still arrive)."""
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            self._mark(error)
            if acknowledged.done():
                return
            if error is None:
                acknowledged.set_result(None)
            else:
                acknowledged.set_exception(error)

        def tell(error: BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        self._executor.submit(self._hand_over, topic, records, tell)
        try:
            async with asyncio.timeout(DOWN_WAIT_S if self.down else self._timeout_s):
                await acknowledged
        except TimeoutError as error:
            self._mark(error)
            raise

    def _hand_over(self, topic: str, records: Sequence[Outgoing], tell: Callable[[BaseException | None], None]) -> None:
        """Give the records to the client; it tells of the last acknowledgement, and of every failure."""
        missing = len(records)

        def count(_: object) -> None:  # on the client's own thread, one at a time
            nonlocal missing
            missing -= 1
            if not missing:
                tell(None)

        try:
            partition_of = self._partitions.of(topic, self._client.partitions_for(topic))
            for key, value, headers in records:
                octets = key.encode()
                packed = [(name, text.encode()) for name, text in headers.items()]
                future = self._client.send(topic, value, octets, packed, partition_of(octets))
                future.add_callback(count)
                future.add_errback(tell)
        except (kafka_errors.KafkaError, OSError) as error:
            tell(error)

    def _mark(self, error: BaseException | None) -> None:
        """Note whether the broker took the last record; only a change is logged."""
        if error is not None and not self.down:
            self._log.warning("bus unreachable", fault=repr(error))
        elif error is None and self.down:
            self._log.info("bus reachable again")
        self.down = error is not None

    def close(self) -> None:
        """Deliver what is under way for at most the publication timeout, then close."""
        self._executor.shutdown(wait=True)
        try:
            self._client.close(timeout=self._timeout_s)
        except kafka_errors.KafkaError as error:
            self._log.warning("records were lost at shutdown", fault=repr(error))


class Reader(threading.Thread):
    """Reads partitions from `positions` (offset, or FROM_START) on into an inbox, for as long as somebody holds it.

    It waits while the inbox has no room, so a slow follower holds up only its own reader, and begins again at its last
    position after a failure of the client.
    """

    def __init__(
        self,
        consumer: Callable[[], KafkaConsumer],
        positions: dict[TopicPartition, int],
        inbox: Inbox,
        stopping: threading.Event,
        prefix: str,
    ) -> None:
        super().__init__(name="kafka-reader", daemon=True)
        self._make_consumer = consumer
        self._positions = positions
        self._inbox = weakref.ref(inbox)
        self._stopping = stopping
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._log = logger("kafka_bus")

    def run(self) -> None:
        """Read until the bus stops, the inbox is gone or the loop is closed."""
        while self._wanted():
            try:
                self._read()
            except (kafka_errors.KafkaError, OSError) as error:
                self._log.warning("bus reader begins again", fault=repr(error))
                self._stopping.wait(RETRY_S)
        inbox = self._inbox()
        if inbox is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(inbox.close)

    def _wanted(self) -> bool:
        return not self._stopping.is_set() and self._inbox() is not None and not self._loop.is_closed()

    def _read(self) -> None:
        consumer = self._make_consumer()
        try:
            consumer.assign(list(self._positions))
            for partition, position in self._positions.items():
                if position == FROM_START:
                    consumer.seek_to_beginning(partition)
                else:
                    consumer.seek(partition, position)
            while self._wanted():
                for partition, records in consumer.poll(timeout_ms=POLL_MS).items():
                    topic = partition.topic.removeprefix(self._prefix)
                    self._deliver([message_of(record, topic) for record in records if record.value is not None])
                    self._positions[partition] = records[-1].offset + 1
        finally:
            consumer.close()

    def _deliver(self, messages: list[BusMessage]) -> None:
        """Hand the batch over once the inbox has room for it."""
        while self._wanted():
            inbox = self._inbox()
            if inbox is not None and inbox.room >= len(messages):
                taken = threading.Event()
                self._loop.call_soon_threadsafe(self._put, inbox, messages, taken)
                del inbox
                while not taken.wait(RETRY_S) and self._wanted():
                    continue
                return
            del inbox
            self._stopping.wait(ROOM_S)

    @staticmethod
    def _put(inbox: Inbox, messages: list[BusMessage], taken: threading.Event) -> None:
        for message in messages:
            inbox.put(message)
        taken.set()
