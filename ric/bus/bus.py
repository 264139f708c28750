"""The bus interface, its in-memory form, and the twins that an app keeps on it."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ric.bus import record
from ric.bus.messages import (
    COMPACTED_TOPICS,
    MAX_RECORD_OCTETS,
    RIC_ALARMS,
    RIC_DECISIONS,
    TOPICS,
    TWIN_ACK,
    TWIN_DESIRED,
    TWIN_FORECAST,
    TWIN_REPORTED,
    BusMessage,
    Inbox,
    Outgoing,
    check_message,
    check_resumable,
)
from ric.bus.record import Ack, AckStatus, Succession, TwinState, Verdict
from ric.clock import Clock, learn_time, to_ns
from ric.columns import Table, check_table
from ric.errors import TwinRicError
from ric.schemas import TWIN_SCHEMAS
from ric.telemetry import Metrics, logger, trace_id

__all__ = [
    "COMPACTED_TOPICS", "MAX_RECORD_OCTETS", "RIC_ALARMS", "RIC_DECISIONS", "TOPICS", "TWIN_ACK", "TWIN_DESIRED",
    "TWIN_FORECAST", "TWIN_REPORTED", "Bus", "BusMessage", "Inbox", "MemoryBus", "Outgoing", "TwinUpdate", "Twins",
    "check_message", "check_resumable", "open_bus",
]  # fmt: skip

RETAINED_RECORDS = 10_000

TwinHandler = Callable[[str, TwinState], None]


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

    async def publish_many(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Publish in order; return once the bus holds all of them. Raises as `publish` does: then some may be held."""
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
        self._in_order = asyncio.Lock()
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

    async def publish_many(self, topic: str, records: Sequence[Outgoing]) -> None:
        """One after the other. Raises TwinRicError BUS-UNREACHABLE, BUS-RANGE, LIMIT-SIZE."""
        for key, value, _ in records:
            check_message(topic, key, value)
        async with self._in_order:  # every publication lets others run
            for outgoing in records:
                await self.publish(topic, *outgoing)

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


class TwinUpdate(NamedTuple):
    """What :meth:`Twins.publish_many` makes the next revision of one twin from."""

    twin_id: str
    kind: str
    table: Table
    valid_for_ms: int = 0
    expected_revision: int = 0


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
        update = TwinUpdate(twin_id, kind, table, valid_for_ms, expected_revision)
        async with self._publishing:
            tails = await self._tails_of(topic)
            state, outgoing = self._outgoing(tails.get(twin_id), update, self._stamp())
            check_message(topic, *outgoing[:2])
            tails[twin_id] = state
            await self._bus.publish(topic, *outgoing)
        return state

    async def publish_many(self, topic: str, updates: Sequence[TwinUpdate]) -> list[TwinState]:
        """Publish the next revision of many twins at the price of few messages; their order is that of `updates`.

        Raises TwinRicError: BUS-RANGE, LIMIT-SIZE (one update is refused: nothing was sent), BUS-UNREACHABLE (the
        revisions are spent, as in `publish`).
        """
        async with self._publishing:
            tails = await self._tails_of(topic)
            made: dict[str, TwinState] = {}
            stamp, states, records = self._stamp(), [], []
            for update in updates:
                previous = made.get(update.twin_id) or tails.get(update.twin_id)
                state, outgoing = self._outgoing(previous, update, stamp)
                check_message(topic, *outgoing[:2])
                made[update.twin_id] = state
                states.append(state)
                records.append(outgoing)
            tails.update(made)
            await self._bus.publish_many(topic, records)
        return states

    def _stamp(self) -> tuple[int, str, dict[str, str]]:
        """Time, trace id and headers of what is published now."""
        now_ns, trace = to_ns(self._clock.now_s()), trace_id()
        return now_ns, trace, self._headers(record.TWIN_EVENT_TYPE, "(state hash)", now_ns)

    def _outgoing(
        self, previous: TwinState | None, update: TwinUpdate, stamp: tuple[int, str, dict[str, str]]
    ) -> tuple[TwinState, Outgoing]:
        """The next revision, proved to be one that readers take."""
        now_ns, trace, headers = stamp
        state, value = record.sealed(
            previous,
            twin_id=update.twin_id,
            kind=update.kind,
            table=update.table,
            now_ns=now_ns,
            valid_for_ms=update.valid_for_ms,
            producer=self._producer,
            trace_id=trace,
            expected_revision=update.expected_revision,
        )
        if previous is None or previous.kind != state.kind or update.table.kind != state.kind:
            record.decode(value)
        else:  # the fields beside the table are as they were, or ours
            check_table(update.table, TWIN_SCHEMAS, "BUS", "features")
        return state, Outgoing(update.twin_id, value, headers | {"ce_id": state.state_hash.hex()})

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
        self, topics: Sequence[str], handler: TwinHandler, *, from_start: bool = False, late: TwinHandler | None = None
    ) -> Coroutine[Any, Any, None]:
        """The work of following `topics`, to be run as a task; the position is fixed when this returns.

        `late` is called with records that move a twin on but have expired; without it they are dropped.
        """
        return self._hand_over(self._bus.follow(topics, from_start=from_start), handler, late)

    async def follow(self, topics: Sequence[str], handler: TwinHandler, *, from_start: bool = False) -> None:
        """Call `handler(topic, state)` for every record that moves a twin on, until the bus stops.

        Duplicates, old and expired records are dropped; gaps are counted and applied, tampered and malformed records
        counted and refused. What the handler raises is counted and logged, and the next record follows.
        """
        await (await self.following(topics, handler, from_start=from_start))

    async def _hand_over(
        self, messages: AsyncIterator[BusMessage], handler: TwinHandler, late: TwinHandler | None
    ) -> None:
        takers = {Verdict.APPLY: handler, Verdict.GAP: handler, Verdict.EXPIRED: late}
        async for message in messages:
            state = self._decoded(message)
            if state is None:
                continue
            learn_time(self._clock, state.source_time_ns)
            take = takers.get(self._verdict(message.topic, state))
            if take is None:
                continue
            try:
                take(message.topic, state)
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

    def _verdict(self, topic: str, state: TwinState) -> Verdict:
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
        return verdict

    async def acknowledge(self, desired: TwinState, status: AckStatus, reason: str = "") -> Ack:
        """Answer a desired record on `twin.ack`. Raises TwinRicError BUS-UNREACHABLE."""
        ack = Ack(desired.twin_id, desired.revision, status, reason, to_ns(self._clock.now_s()))
        identifier = f"{desired.state_hash.hex()}-{status.name.lower()}"
        headers = self._headers(record.ACK_EVENT_TYPE, identifier, ack.time_ns)
        await self._bus.publish(TWIN_ACK, ack.twin_id, record.encode_ack(ack), headers)
        return ack

    def _headers(self, event_type: str, identifier: str, now_ns: int) -> dict[str, str]:
        source = f"/twinric/{self._producer}"
        return record.cloudevents_headers(source, event_type, now_ns, trace_id(), identifier=identifier)
