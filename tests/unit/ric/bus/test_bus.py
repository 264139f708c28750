from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest

from ric.bus import record
from ric.bus.bus import (
    RIC_ALARMS,
    TWIN_ACK,
    TWIN_DESIRED,
    TWIN_REPORTED,
    BusMessage,
    Inbox,
    MemoryBus,
    Twins,
    TwinUpdate,
    open_bus,
)
from ric.bus.record import AckStatus, TwinState
from ric.clock import SimClock
from ric.columns import Table
from ric.errors import TwinRicError
from ric.telemetry import Metrics, trace

START_S = 1_700_000_000.0
TWIN = "slice/00101-e2000001"


def table(time_s: float = START_S, value: float = 1.0) -> Table:
    columns = {name: np.array([value]) for name in ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")}
    return Table("slice_twin", ("1-000001",), columns, int(time_s * 1e9))


def message(topic: str, value: bytes) -> BusMessage:
    return BusMessage(topic, "key", value, {})


def count(metrics: Metrics, name: str, *labels: str) -> float:
    return float(getattr(metrics, name).labels(metrics.component, *labels)._value.get())


class Reader:
    """Follows a topic in a task and keeps what the handler was given."""

    def __init__(self, bus: MemoryBus, topics: tuple[str, ...] = (TWIN_REPORTED,)) -> None:
        self.metrics = Metrics("reader")
        self.clock = SimClock(START_S)
        self.twins = Twins(bus, self.clock, self.metrics, "reader/1")
        self.topics = topics
        self.seen: list[TwinState] = []

    async def __aenter__(self) -> Reader:
        work = await self.twins.following(self.topics, lambda _, state: self.seen.append(state))
        self.task = asyncio.create_task(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def twins(bus: MemoryBus, producer: str = "slice_bandwidth/1") -> Twins:
    return Twins(bus, SimClock(START_S), Metrics("producer"), producer)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_inbox_alarms_are_read_before_state_that_waits() -> None:
    inbox = Inbox()
    for value in (b"1", b"2"):
        inbox.put(message(TWIN_REPORTED, value))
    inbox.put(message(RIC_ALARMS, b"alarm"))
    assert [(await anext(inbox)).value for _ in range(3)] == [b"alarm", b"1", b"2"]


async def test_inbox_full_drops_the_oldest_state_and_no_alarm() -> None:
    inbox = Inbox(length=2)
    inbox.put(message(RIC_ALARMS, b"alarm"))
    assert [inbox.put(message(TWIN_REPORTED, value)) for value in (b"1", b"2", b"3")] == [0, 0, 1]
    assert inbox.room == 0
    inbox.close()
    assert [item.value async for item in inbox] == [b"alarm", b"2", b"3"]


async def test_memory_bus_slow_follower_loses_only_its_own_records_and_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Inbox.__init__, "__defaults__", (3,))
    metrics = Metrics("bus")
    bus = MemoryBus(metrics)
    slow, quick = bus.follow([TWIN_REPORTED]), bus.follow([TWIN_REPORTED])
    read = []
    for number in range(5):
        await bus.publish(TWIN_REPORTED, "key", bytes([number]), {})
        read.append((await anext(quick)).value)
    assert read == [bytes([number]) for number in range(5)]
    assert [(await anext(slow)).value for _ in range(3)] == [b"\x02", b"\x03", b"\x04"]
    assert count(metrics, "dropped", "bus") == 2


async def test_memory_bus_forgotten_follower_is_let_go() -> None:
    bus = MemoryBus()
    follower = bus.follow([TWIN_REPORTED])
    assert len(bus._followers) == 1
    del follower
    gc.collect()
    await bus.publish(TWIN_REPORTED, "key", b"", {})
    assert bus._followers == []


def test_open_bus_unknown_scheme_names_the_accepted_ones() -> None:
    with pytest.raises(TwinRicError, match=r"CONFIG-RANGE bus_url = 'amqp://x': accepted memory:// or kafka://"):
        open_bus("amqp://x", Metrics("x"), client_id="x")
    assert isinstance(open_bus("memory://", Metrics("x"), client_id="x"), MemoryBus)


async def test_twins_publish_counts_revisions_and_carries_the_trace() -> None:
    bus = MemoryBus()
    feed = bus.follow([TWIN_REPORTED])
    producer = twins(bus)
    with trace("cd" * 16):
        states = [await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table()) for _ in range(3)]
    assert [state.revision for state in states] == [1, 2, 3]
    sent = [await anext(feed) for _ in range(3)]
    assert [item.key for item in sent] == [TWIN] * 3
    events = [record.decode_headers(item.headers) for item in sent]
    assert {event.trace_id for event in events} == {"cd" * 16}
    assert {event.source for event in events} == {"/twinric/slice_bandwidth/1"}
    assert len({event.identifier for event in events}) == 3


async def test_twins_concurrent_publications_keep_one_chain() -> None:
    bus = MemoryBus()
    producer = twins(bus)
    async with Reader(bus) as reader:
        await asyncio.gather(*(producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table()) for _ in range(20)))
        await settle()
    assert [state.revision for state in reader.seen] == list(range(1, 21))


async def test_twins_restarted_producer_goes_on_counting() -> None:
    bus = MemoryBus()
    async with Reader(bus) as reader:
        await twins(bus).publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        restarted = twins(bus)
        state = await restarted.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        await settle()
    assert state.revision == 2
    assert count(reader.metrics, "twins", "apply") == 2


async def test_twins_publish_table_outside_its_schema_sends_nothing_and_spends_no_revision() -> None:
    bus = MemoryBus()
    producer = twins(bus)
    with pytest.raises(TwinRicError, match=r"features\.flexe_slots = 21\.0: accepted 0\.\.20 slot"):
        await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table(value=21))
    assert await bus.latest(TWIN_REPORTED) == {}
    assert (await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())).revision == 1


async def test_twins_publication_of_unknown_fate_is_a_gap_and_never_a_fork() -> None:
    """A record that timed out may be on the bus or not; the next one must not carry its revision."""

    class Failing(MemoryBus):
        fails = False

        async def publish(self, *arguments: object) -> None:
            if self.fails:
                raise TwinRicError("BUS-UNREACHABLE", "bus", "test", "an answer")
            await super().publish(*arguments)  # type: ignore[arg-type]

    bus = Failing()
    producer = twins(bus)
    async with Reader(bus) as reader:
        await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        bus.fails = True
        with pytest.raises(TwinRicError, match="BUS-UNREACHABLE"):
            await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        bus.fails = False
        state = await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        await settle()
    assert state.revision == 3
    assert [seen.revision for seen in reader.seen] == [1, 3]
    assert count(reader.metrics, "twins", "gap") == 1


async def test_twins_rebuild_gives_the_newest_unexpired_twins_of_the_prefix() -> None:
    bus = MemoryBus()
    producer = twins(bus)
    await producer.publish(TWIN_REPORTED, "slice/a", "slice_twin", table(value=1))
    await producer.publish(TWIN_REPORTED, "slice/a", "slice_twin", table(value=2))
    await producer.publish(TWIN_REPORTED, "slice/b", "slice_twin", table(START_S - 10), valid_for_ms=5_000)
    await producer.publish(TWIN_REPORTED, "other/a", "slice_twin", table())
    rebuilt = await twins(bus, "other/1").rebuild(TWIN_REPORTED, "slice/")
    assert list(rebuilt) == ["slice/a"]
    assert rebuilt["slice/a"].revision == 2
    assert rebuilt["slice/a"].table["delay_ms"][0] == 2


async def test_twins_rebuild_leaves_out_what_it_cannot_read_and_counts_it() -> None:
    bus = MemoryBus()
    await twins(bus).publish(TWIN_REPORTED, TWIN, "slice_twin", table())
    await bus.publish(TWIN_REPORTED, "slice/broken", b"\xff\xff", {})
    reader = Reader(bus)
    assert list(await reader.twins.rebuild(TWIN_REPORTED)) == [TWIN]
    assert count(reader.metrics, "refused", "BUS-MALFORMED") == 1


async def test_twins_follow_refuses_bad_records_counts_them_and_goes_on() -> None:
    bus = MemoryBus()
    producer = twins(bus)
    async with Reader(bus) as reader:
        first = await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        await bus.publish(TWIN_REPORTED, TWIN, b"\x00 not a record", {})
        await bus.publish(TWIN_REPORTED, "slice/other", record.encode(first), {})
        await bus.publish(TWIN_REPORTED, TWIN, record.encode(first), {})
        forged = record.successor(
            None,
            twin_id=TWIN,
            kind="slice_twin",
            table=table(value=9),
            now_ns=1,
            valid_for_ms=0,
            producer="mallory",
            trace_id="",
        )
        await bus.publish(TWIN_REPORTED, TWIN, record.encode(forged), {})
        await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
        await settle()
    assert [state.revision for state in reader.seen] == [1, 2]
    assert {state.producer for state in reader.seen} == {"slice_bandwidth/1"}
    assert count(reader.metrics, "refused", "BUS-MALFORMED") == 1
    assert count(reader.metrics, "refused", "BUS-RANGE") == 1
    assert count(reader.metrics, "refused", "BUS-TAMPERED") == 1
    assert count(reader.metrics, "twins", "duplicate") == 1


async def test_twins_follow_failing_handler_costs_one_record_only() -> None:
    bus = MemoryBus()
    producer, metrics = twins(bus), Metrics("reader")
    seen: list[int] = []

    def handler(_: str, state: TwinState) -> None:
        if state.revision == 1:
            raise ZeroDivisionError
        if state.revision == 2:
            raise TwinRicError("BUS-RANGE", "x", 1, "2")
        seen.append(state.revision)

    reader = Twins(bus, SimClock(START_S), metrics, "reader/1")
    task = asyncio.create_task(await reader.following([TWIN_REPORTED], handler))
    for _ in range(3):
        await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table())
    await bus.stop()
    await task
    assert seen == [3]
    assert count(metrics, "refused", "INTERNAL") == 1
    assert count(metrics, "refused", "BUS-RANGE") == 1


async def test_twins_acknowledge_answers_the_desired_revision() -> None:
    bus = MemoryBus()
    feed = bus.follow([TWIN_ACK])
    desired = await twins(bus).publish(TWIN_DESIRED, TWIN, "slice_twin", table(), expected_revision=5)
    await twins(bus, "hems_load/1").acknowledge(desired, AckStatus.EXPIRED, "older than its validity")
    ack = record.decode_ack((await anext(feed)).value)
    assert (ack.twin_id, ack.revision, ack.status) == (TWIN, 1, AckStatus.EXPIRED)
    assert desired.expected_revision == 5


async def test_twins_publish_many_is_publish_of_each() -> None:
    """The same records, to the octet, as one call per twin would have made; a twin may be there twice."""
    updates = [
        *(TwinUpdate(f"slice/n{n}", "slice_twin", table(START_S + n), 500, 3) for n in range(5)),
        TwinUpdate("slice/n2", "slice_twin", table(START_S + 9)),
    ]
    values = []
    for many in (True, False):
        bus = MemoryBus()
        feed = bus.follow([TWIN_REPORTED])
        with trace("ab" * 16):
            for _ in range(2):
                if many:
                    states = await twins_of(bus).publish_many(TWIN_REPORTED, updates)
                    assert [state.twin_id for state in states] == [update.twin_id for update in updates]
                else:
                    publisher = twins_of(bus)
                    for update in updates:
                        await publisher.publish(TWIN_REPORTED, *update)
        values.append([(item.key, item.value, dict(item.headers)) for item in [await anext(feed) for _ in range(12)]])
    assert values[0] == values[1]
    revisions = [record.decode(value).revision for key, value, _ in values[0] if key == "slice/n2"]
    assert revisions == [1, 2, 3, 4]


def twins_of(bus: MemoryBus) -> Twins:
    """A producer that learns from the bus where it was, as after a restart."""
    return twins(bus)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 1e12])
@pytest.mark.parametrize("first", [True, False], ids=["first revision", "later revision"])
async def test_twins_publish_many_one_bad_table_sends_nothing(bad: float, first: bool) -> None:
    bus = MemoryBus()
    publisher = twins(bus)
    good = [TwinUpdate(f"slice/n{n}", "slice_twin", table()) for n in range(3)]
    if not first:
        await publisher.publish_many(TWIN_REPORTED, good)
    feed = bus.follow([TWIN_REPORTED])
    with pytest.raises(TwinRicError, match="BUS-RANGE features"):
        await publisher.publish_many(TWIN_REPORTED, [*good, TwinUpdate("slice/n1", "slice_twin", table(value=bad))])
    states = await publisher.publish_many(TWIN_REPORTED, good)
    assert [state.revision for state in states] == [1 if first else 2] * 3
    assert [record.decode((await anext(feed)).value).state_hash for _ in good] == [s.state_hash for s in states]


async def test_twins_publish_many_that_fails_spends_its_revisions() -> None:
    bus = MemoryBus()
    publisher = twins(bus)
    update = TwinUpdate(TWIN, "slice_twin", table())
    await publisher.publish_many(TWIN_REPORTED, [update])
    await bus.stop()
    with pytest.raises(TwinRicError, match="BUS-UNREACHABLE"):
        await publisher.publish_many(TWIN_REPORTED, [update])
    await bus.start()
    assert [state.revision for state in await publisher.publish_many(TWIN_REPORTED, [update])] == [3]
