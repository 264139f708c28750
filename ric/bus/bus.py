"""The bus interface, its in-memory form, and the twins that an app keeps on it."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ric.bus import record
from ric.bus.record import Ack, AckStatus, Succession, TwinState, Verdict
from ric.clock import Clock, learn_time, to_ns
from ric.columns import Table
from ric.errors import TwinRicError, nearest
from ric.telemetry import Metrics, logger, trace_id

__all__ = [
    "COMPACTED_TOPICS", "MAX_RECORD_OCTETS", "RIC_ALARMS", "RIC_DECISIONS", "TOPICS", "TWIN_ACK", "TWIN_DESIRED",
    "TWIN_FORECAST", "TWIN_REPORTED", "Bus", "BusMessage", "Inbox", "MemoryBus", "Twins", "check_message",
    "check_resumable", "open_bus",
]  # fmt: skip

TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST, TWIN_ACK = "twin.reported", "twin.desired", "twin.forecast", "twin.ack"
RIC_DECISIONS, RIC_ALARMS = "ric.decisions", "ric.alarms"
COMPACTED_TOPICS = (TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST)
TOPICS = (*COMPACTED_TOPICS, TWIN_ACK, RIC_DECISIONS, RIC_ALARMS)
URGENT_TOPICS = frozenset({RIC_ALARMS})

MAX_RECORD_OCTETS = 8 * 1024 * 1024
INBOX_LENGTH = 10_000
RETAINED_RECORDS = 10_000

TwinHandler = Callable[[str, TwinState], None]


@dataclass(frozen=True)
class BusMessage:
    """One record as it lies on the bus; `headers` are CloudEvents binary-mode headers.

    `position` grows from record to record of one key, and of the whole topic where that has one partition.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str]
    position: int = field(default=0, compare=False)


class Bus(Protocol):
    """Publish and follow keyed records. Both implementations pass `tests/.../BusContract`."""

    async def start(self) -> None:
        """Connect and make the topics. Raises TwinRicError BUS-UNREACHABLE."""
        ...

    async def stop(self) -> None:
        """Flush, close, end all iterators."""
        ...

    async def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Return once the bus holds the record (order per key kept). Raises BUS-UNREACHABLE, LIMIT-SIZE."""
        ...

    def follow(self, topics: Sequence[str], *, from_start: bool = False) -> AsyncIterator[BusMessage]:
        """Records from now on (the position is fixed before this returns), or all that the topics hold and then on."""
        ...

    def resume(self, topic: str, after: int) -> AsyncIterator[BusMessage]:
        """Records after a position reached in an earlier life, or from the oldest kept. BUS-RANGE where compacted."""
        ...

    async def latest(self, topic: str) -> dict[str, BusMessage]:
        """The newest record per key of a compacted topic, as it stands now: what a restarted app rebuilds from."""
        ...


def check_resumable(topic: str) -> None:
    """Raises TwinRicError BUS-RANGE for a topic whose records have no order of their own: compacted, or unknown."""
    check_message(topic, "-", b"")
    if topic in COMPACTED_TOPICS:
        raise TwinRicError("BUS-RANGE", "topic", topic, "a topic that is not compacted")


def check_message(topic: str, key: str, value: bytes) -> None:
    """Raises TwinRicError BUS-RANGE for an unknown topic or an empty key, LIMIT-SIZE for a record that is too large."""
    if topic not in TOPICS:
        raise TwinRicError("BUS-RANGE", "topic", topic, "a topic of the bus", nearest(topic, TOPICS))
    if not key:
        raise TwinRicError("BUS-RANGE", "key", key, "at least one character")
    if len(value) > MAX_RECORD_OCTETS:
        remedy = "Split the table: one twin per E2 node."
        raise TwinRicError("LIMIT-SIZE", f"{topic} {key}", len(value), f"at most {MAX_RECORD_OCTETS} octets", remedy)


class Inbox(AsyncIterator[BusMessage]):
    """What one follower has not read yet: alarms first, else in order of arrival; used on the loop's thread only.

    A follower that reads too slowly loses its own oldest state records (`put` says so), never other followers', and
    finds the gap in their revisions.
    """

    def __init__(self, length: int = INBOX_LENGTH) -> None:
        self._length = length
        self._urgent: deque[BusMessage] = deque()
        self._waiting: deque[BusMessage] = deque()
        self._arrived = asyncio.Event()
        self.closed = False

    @property
    def room(self) -> int:
        """How many records fit before the oldest is pushed out."""
        return self._length - max(len(self._waiting), len(self._urgent))

    def put(self, message: BusMessage) -> int:
        """Add a record; returns how many records that pushed out (0 or 1)."""
        queue = self._urgent if message.topic in URGENT_TOPICS else self._waiting
        queue.append(message)
        self._arrived.set()
        if len(queue) <= self._length:
            return 0
        queue.popleft()
        return 1

    def close(self) -> None:
        """End the iteration once what has arrived is read."""
        self.closed = True
        self._arrived.set()

    async def __anext__(self) -> BusMessage:
        while not self._urgent and not self._waiting:
            if self.closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._urgent.popleft() if self._urgent else self._waiting.popleft()


class MemoryBus:
    """`memory://`: one process, one loop, one instance that all its apps share.

    Compacted topics keep the newest record per key, the others their newest `RETAINED_RECORDS`.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._stopped = False
        self._newest: dict[str, dict[str, BusMessage]] = {topic: {} for topic in COMPACTED_TOPICS}
        self._retained: dict[str, deque[BusMessage]] = {
            topic: deque(maxlen=RETAINED_RECORDS) for topic in TOPICS if topic not in COMPACTED_TOPICS
        }
        self._positions = itertools.count()
        self._followers: list[tuple[frozenset[str], weakref.ref[Inbox]]] = []

    async def start(self) -> None:
        """Open for business again after :meth:`stop`; what the topics hold is kept."""
        self._stopped = False

    async def stop(self) -> None:
        """End all iterators."""
        self._stopped = True
        for _, reference in self._followers:
            inbox = reference()
            if inbox is not None:
                inbox.close()
        self._followers.clear()

    async def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Hand the record to every follower. Raises TwinRicError BUS-UNREACHABLE, BUS-RANGE, LIMIT-SIZE."""
        check_message(topic, key, value)
        if self._stopped:
            raise TwinRicError("BUS-UNREACHABLE", "bus", "memory://", "a bus that is not stopped")
        message = BusMessage(topic, key, bytes(value), dict(headers), next(self._positions))
        if topic in self._newest:
            self._newest[topic].pop(key, None)
            self._newest[topic][key] = message
        else:
            self._retained[topic].append(message)
        if self._metrics is not None:
            self._metrics.count_message("bus", "out")
        self._hand_out(message)
        # Lets followers run, so that a burst of records does not overflow them.
        await asyncio.sleep(0)

    def _hand_out(self, message: BusMessage) -> None:
        gone = False
        for topics, reference in self._followers:
            inbox = reference()
            if inbox is None:
                gone = True
            elif message.topic in topics:
                lost = inbox.put(message)
                if lost and self._metrics is not None:
                    self._metrics.count_dropped("bus")
        if gone:
            self._followers = [entry for entry in self._followers if entry[1]() is not None]

    def follow(self, topics: Sequence[str], *, from_start: bool = False) -> AsyncIterator[BusMessage]:
        """Records from now on, or what the topics hold and then on. Raises TwinRicError BUS-RANGE."""
        for topic in topics:
            check_message(topic, "-", b"")
        held: list[BusMessage] = []
        for topic in topics if from_start else ():
            held += self._newest[topic].values() if topic in self._newest else self._retained[topic]
        return self._following(topics, held)

    def resume(self, topic: str, after: int) -> AsyncIterator[BusMessage]:
        """Records after position `after`, as far as they are retained. Raises TwinRicError BUS-RANGE."""
        check_resumable(topic)
        return self._following([topic], [each for each in self._retained[topic] if each.position > after])

    def _following(self, topics: Sequence[str], held: Sequence[BusMessage]) -> Inbox:
        inbox = Inbox()
        for message in held:
            inbox.put(message)
        if self._stopped:
            inbox.close()
        else:
            self._followers.append((frozenset(topics), weakref.ref(inbox)))
        return inbox

    async def latest(self, topic: str) -> dict[str, BusMessage]:
        """The newest record per key. Raises TwinRicError BUS-RANGE when `topic` is not compacted."""
        if topic not in self._newest:
            raise TwinRicError("BUS-RANGE", "topic", topic, f"one of {', '.join(COMPACTED_TOPICS)}")
        return dict(self._newest[topic])


def open_bus(url: str, metrics: Metrics, *, client_id: str) -> Bus:
    """The bus at `url`: `memory://` (a new one) or `kafka://host:port[,host:port]`, not started yet.

    Kafka's security settings come from `TWINRIC_KAFKA__*` (see `ric.bus.kafka.KafkaSettings`). Raises TwinRicError
    CONFIG-RANGE.
    """
    if url == "memory://":
        return MemoryBus(metrics)
    if url.startswith("kafka://"):
        from ric.bus.kafka import KafkaBus  # imported here: the demo and unit tests need no Kafka client

        return KafkaBus.at(url, metrics, client_id=client_id)
    raise TwinRicError("CONFIG-RANGE", "bus_url", url, "memory:// or kafka://host:port[,host:port]")


class Twins:
    """The twins of one app on the bus: it publishes its own and follows those of others.

    `producer` is the app's name and instance. Records of one twin are published in order, whoever awaits.
    """

    def __init__(self, bus: Bus, clock: Clock, metrics: Metrics, producer: str) -> None:
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._producer = producer
        self._log = logger("twins")
        self._tails: dict[str, dict[str, TwinState]] = {}
        self._publishing = asyncio.Lock()
        self._successions: dict[str, Succession] = {}

    async def publish(
        self,
        topic: str,
        twin_id: str,
        kind: str,
        table: Table,
        valid_for_ms: int = 0,
        expected_revision: int = 0,
    ) -> TwinState:
        """Publish the next revision of `twin_id` and return it.

        Raises TwinRicError: BUS-RANGE (table outside its schema; nothing was sent), LIMIT-SIZE, BUS-UNREACHABLE. After
        BUS-UNREACHABLE the revision is spent, because the broker may still have taken it; readers see at most a gap.
        """
        async with self._publishing:
            tails = await self._tails_of(topic)
            state = record.successor(
                tails.get(twin_id),
                twin_id=twin_id,
                kind=kind,
                table=table,
                now_ns=to_ns(self._clock.now_s()),
                valid_for_ms=valid_for_ms,
                producer=self._producer,
                trace_id=trace_id(),
                expected_revision=expected_revision,
            )
            value = record.encode(state)
            record.decode(value)
            check_message(topic, twin_id, value)
            tails[twin_id] = state
            await self._bus.publish(
                topic, twin_id, value, self._headers(record.TWIN_EVENT_TYPE, state.state_hash.hex())
            )
        return state

    async def _tails_of(self, topic: str) -> dict[str, TwinState]:
        """Newest revision per twin of `topic`; learnt from the bus once, so that a restarted app goes on counting."""
        if topic not in self._tails:
            self._tails[topic] = await self._held(topic, "")
        return self._tails[topic]

    async def _held(self, topic: str, prefix: str) -> dict[str, TwinState]:
        held = {}
        for key, message in sorted((await self._bus.latest(topic)).items()):
            state = self._decoded(message) if key.startswith(prefix) else None
            if state is not None:
                held[key] = state
        return held

    async def rebuild(self, topic: str, prefix: str = "") -> dict[str, TwinState]:
        """The twins of a compacted topic whose ids start with `prefix`, as the bus holds them; expired ones left out.

        `follow` continues from them. Raises TwinRicError BUS-UNREACHABLE.
        """
        held = await self._held(topic, prefix)
        succession = self._successions.setdefault(topic, Succession())
        for state in held.values():
            learn_time(self._clock, state.source_time_ns, live=False)
        now_ns = to_ns(self._clock.now_s())
        for state in held.values():
            succession.anchor(state)
        return {twin_id: state for twin_id, state in held.items() if not record.is_expired(state, now_ns)}

    async def following(
        self, topics: Sequence[str], handler: TwinHandler, *, from_start: bool = False
    ) -> Coroutine[Any, Any, None]:
        """The work of following `topics`, to be run as a task; the position is fixed when this returns."""
        return self._hand_over(self._bus.follow(topics, from_start=from_start), handler)

    async def follow(self, topics: Sequence[str], handler: TwinHandler, *, from_start: bool = False) -> None:
        """Call `handler(topic, state)` for every record that moves a twin on, until the bus stops.

        Duplicates, old and expired records are dropped; gaps are counted and applied, tampered and malformed records
        counted and refused. What the handler raises is counted and logged, and the next record follows.
        """
        await (await self.following(topics, handler, from_start=from_start))

    async def _hand_over(self, messages: AsyncIterator[BusMessage], handler: TwinHandler) -> None:
        async for message in messages:
            state = self._decoded(message)
            if state is None:
                continue
            learn_time(self._clock, state.source_time_ns)
            if not self._admitted(message.topic, state):
                continue
            try:
                handler(message.topic, state)
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.warning("twin refused", topic=message.topic, twin_id=state.twin_id, fault=str(error))
            except Exception:  # noqa: BLE001  the bus's one translator: a handler's bug costs a record, not the feed
                self._metrics.count_refused("INTERNAL")
                self._log.exception("twin handler failed", topic=message.topic, twin_id=state.twin_id)

    def _decoded(self, message: BusMessage) -> TwinState | None:
        """The record's state, or None once the refusal is counted."""
        try:
            state = record.decode(message.value)
            if state.twin_id != message.key:
                raise TwinRicError("BUS-RANGE", "key", message.key, f"the record's twin_id {state.twin_id!r}")
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            self._log.warning("twin record refused", topic=message.topic, key=message.key, fault=str(error))
            return None
        return state

    def _admitted(self, topic: str, state: TwinState) -> bool:
        succession = self._successions.setdefault(topic, Succession())
        previous = succession.newest(state.twin_id)
        verdict = succession.admit(state, to_ns(self._clock.now_s()))
        self._metrics.count_twin(verdict.value)
        if verdict is Verdict.TAMPERED:
            self._metrics.count_refused("BUS-TAMPERED")
        if verdict in (Verdict.GAP, Verdict.TAMPERED):
            self._log.warning(
                f"twin {verdict.value}",
                topic=topic,
                twin_id=state.twin_id,
                revision=state.revision,
                previous_revision=previous.revision if previous else 0,
                producer=state.producer,
            )
        return verdict in (Verdict.APPLY, Verdict.GAP)

    async def acknowledge(self, desired: TwinState, status: AckStatus, reason: str = "") -> Ack:
        """Answer a desired record on `twin.ack`. Raises TwinRicError BUS-UNREACHABLE."""
        ack = Ack(desired.twin_id, desired.revision, status, reason, to_ns(self._clock.now_s()))
        headers = self._headers(record.ACK_EVENT_TYPE, f"{desired.state_hash.hex()}-{status.name.lower()}")
        await self._bus.publish(TWIN_ACK, ack.twin_id, record.encode_ack(ack), headers)
        return ack

    def _headers(self, event_type: str, identifier: str) -> dict[str, str]:
        return record.cloudevents_headers(
            f"/twinric/{self._producer}", event_type, to_ns(self._clock.now_s()), trace_id(), identifier=identifier
        )
