"""One suite for every bus: in memory, and on Kafka (marker `system`)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from ric.bus.bus import (
    MAX_RECORD_OCTETS,
    RIC_ALARMS,
    RIC_DECISIONS,
    TWIN_FORECAST,
    TWIN_REPORTED,
    Bus,
    BusMessage,
    MemoryBus,
    Outgoing,
    Twins,
)
from ric.bus.record import TwinState
from ric.clock import SimClock
from ric.columns import Table
from ric.errors import TwinRicError
from ric.telemetry import Metrics

START_S = 1_700_000_000.0
HEADERS = {"ce_id": "1", "ce_source": "/test"}


async def take(feed: AsyncIterator[BusMessage], number: int) -> list[BusMessage]:
    async with asyncio.timeout(20):
        return [await anext(feed) for _ in range(number)]


def table(value: float) -> Table:
    columns = {name: np.array([value]) for name in ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")}
    return Table("slice_twin", ("1-000001",), columns, int(START_S * 1e9))


class BusContract:
    """What every bus does; a subclass gives the fixture `bus`, started and empty."""

    async def test_follow_gets_records_as_they_were_published(self, bus: Bus) -> None:
        feed = bus.follow([RIC_DECISIONS])
        await bus.publish(RIC_DECISIONS, "hems_load", b"\x00\xff", HEADERS)
        assert await take(feed, 1) == [BusMessage(RIC_DECISIONS, "hems_load", b"\x00\xff", HEADERS)]

    async def test_follow_position_is_fixed_when_it_returns(self, bus: Bus) -> None:
        await bus.publish(RIC_DECISIONS, "app", b"before", {})
        feed = bus.follow([RIC_DECISIONS])
        await bus.publish(RIC_DECISIONS, "app", b"after", {})
        assert [item.value for item in await take(feed, 1)] == [b"after"]

    async def test_follow_order_per_key_is_kept(self, bus: Bus) -> None:
        feed = bus.follow([TWIN_REPORTED])
        for number in range(20):
            await bus.publish(TWIN_REPORTED, f"twin/{number % 3}", bytes([number]), {})
        values: dict[str, list[int]] = {}
        for item in await take(feed, 20):
            values.setdefault(item.key, []).append(item.value[0])
        assert values == {f"twin/{key}": list(range(key, 20, 3)) for key in range(3)}

    async def test_follow_concurrent_publications_arrive_in_the_order_of_the_calls(self, bus: Bus) -> None:
        feed = bus.follow([RIC_DECISIONS])
        await asyncio.gather(*(bus.publish(RIC_DECISIONS, "app", bytes([number]), {}) for number in range(50)))
        assert [item.value[0] for item in await take(feed, 50)] == list(range(50))

    async def test_follow_from_start_gives_what_is_held_and_then_goes_on(self, bus: Bus) -> None:
        await bus.publish(RIC_ALARMS, "feeder/1", b"1", {})
        await bus.publish(RIC_ALARMS, "feeder/1", b"2", {})
        feed = bus.follow([RIC_ALARMS], from_start=True)
        held = await take(feed, 2)
        await bus.publish(RIC_ALARMS, "feeder/1", b"3", {})
        assert [item.value for item in [*held, *await take(feed, 1)]] == [b"1", b"2", b"3"]

    async def test_publish_many_arrives_in_order_per_key_with_headers(self, bus: Bus) -> None:
        feed = bus.follow([TWIN_REPORTED])
        records = [Outgoing(f"twin/{n % 7}", bytes([n]), {"ce_id": str(n)}) for n in range(100)]
        await asyncio.gather(*(bus.publish_many(TWIN_REPORTED, records[n : n + 20]) for n in range(0, 100, 20)))
        await bus.publish_many(TWIN_REPORTED, [])
        values: dict[str, list[int]] = {}
        for item in await take(feed, 100):
            values.setdefault(item.key, []).append(item.value[0])
            assert item.headers == {"ce_id": str(item.value[0])}
        assert values == {f"twin/{key}": list(range(key, 100, 7)) for key in range(7)}

    async def test_publish_many_with_one_bad_record_sends_none(self, bus: Bus) -> None:
        with pytest.raises(TwinRicError, match="BUS-RANGE key"):
            await bus.publish_many(TWIN_REPORTED, [Outgoing("twin/1", b"1", {}), Outgoing("", b"2", {})])
        assert await bus.latest(TWIN_REPORTED) == {}

    async def test_resume_goes_on_after_a_position(self, bus: Bus) -> None:
        for number in range(5):
            await bus.publish(RIC_ALARMS, "feeder/1", bytes([number]), {})
        read = await take(bus.follow([RIC_ALARMS], from_start=True), 3)
        assert [item.position for item in read] == sorted({item.position for item in read})
        again = bus.resume(RIC_ALARMS, read[-1].position)
        assert [item.value[0] for item in await take(again, 2)] == [3, 4]
        await bus.publish(RIC_ALARMS, "feeder/1", b"\x05", {})
        assert [item.value[0] for item in await take(again, 1)] == [5]

    async def test_resume_of_a_compacted_or_unknown_topic_is_refused(self, bus: Bus) -> None:
        for topic in (TWIN_REPORTED, "twin.unknown"):
            with pytest.raises(TwinRicError, match="BUS-RANGE topic"):
                bus.resume(topic, 0)

    async def test_follow_several_topics_and_several_followers(self, bus: Bus) -> None:
        both, alarms = bus.follow([TWIN_REPORTED, RIC_ALARMS]), bus.follow([RIC_ALARMS])
        await bus.publish(TWIN_REPORTED, "twin/1", b"state", {})
        await bus.publish(RIC_ALARMS, "feeder/1", b"alarm", {})
        await bus.publish(RIC_DECISIONS, "app", b"decision", {})
        assert {item.topic for item in await take(both, 2)} == {TWIN_REPORTED, RIC_ALARMS}
        assert [item.value for item in await take(alarms, 1)] == [b"alarm"]

    async def test_latest_gives_the_newest_record_per_key(self, bus: Bus) -> None:
        assert await bus.latest(TWIN_FORECAST) == {}
        for key, value in (("twin/a", b"1"), ("twin/b", b"2"), ("twin/a", b"3")):
            await bus.publish(TWIN_FORECAST, key, value, HEADERS)
        latest = await bus.latest(TWIN_FORECAST)
        assert latest == {
            "twin/a": BusMessage(TWIN_FORECAST, "twin/a", b"3", HEADERS),
            "twin/b": BusMessage(TWIN_FORECAST, "twin/b", b"2", HEADERS),
        }

    async def test_latest_of_a_topic_that_is_not_compacted_is_refused(self, bus: Bus) -> None:
        with pytest.raises(TwinRicError, match=r"BUS-RANGE topic = 'ric\.alarms'"):
            await bus.latest(RIC_ALARMS)

    @pytest.mark.parametrize(
        ("topic", "key", "octets", "code"),
        [
            ("twin.report", "twin/1", 1, "BUS-RANGE"),
            (TWIN_REPORTED, "", 1, "BUS-RANGE"),
            (TWIN_REPORTED, "twin/1", MAX_RECORD_OCTETS + 1, "LIMIT-SIZE"),
        ],
        ids=["unknown topic", "no key", "too large"],
    )
    async def test_publish_refused_record_leaves_the_bus_working(
        self, bus: Bus, topic: str, key: str, octets: int, code: str
    ) -> None:
        feed = bus.follow([TWIN_REPORTED])
        with pytest.raises(TwinRicError) as caught:
            await bus.publish(topic, key, bytes(octets), {})
        assert caught.value.code == code
        await bus.publish(TWIN_REPORTED, "twin/1", b"good", {})
        assert [item.value for item in await take(feed, 1)] == [b"good"]

    async def test_publish_largest_record_arrives_whole(self, bus: Bus) -> None:
        feed = bus.follow([TWIN_REPORTED])
        value = bytes(range(256)) * (MAX_RECORD_OCTETS // 256)
        await bus.publish(TWIN_REPORTED, "twin/1", value, {})
        assert (await take(feed, 1))[0].value == value

    async def test_follow_unknown_topic_is_refused_with_a_suggestion(self, bus: Bus) -> None:
        with pytest.raises(TwinRicError, match=r"Did you mean 'ric\.alarms'"):
            bus.follow(["ric.alarm"])

    async def test_stop_ends_iterations_and_refuses_publications(self, bus: Bus) -> None:
        feed = bus.follow([TWIN_REPORTED, RIC_ALARMS])
        await bus.stop()
        async with asyncio.timeout(20):
            assert [item async for item in feed] == []
        with pytest.raises(TwinRicError, match="BUS-UNREACHABLE"):
            await bus.publish(RIC_ALARMS, "feeder/1", b"", {})

    async def test_start_after_stop_finds_what_the_topics_held(self, bus: Bus) -> None:
        await bus.publish(TWIN_REPORTED, "twin/1", b"1", {})
        await bus.stop()
        await bus.start()
        assert {key: item.value for key, item in (await bus.latest(TWIN_REPORTED)).items()} == {"twin/1": b"1"}

    async def test_twins_crash_and_restart_keep_one_chain(self, bus: Bus) -> None:
        clock = SimClock(START_S)
        metrics = Metrics("reader")
        seen: list[TwinState] = []
        arrived = asyncio.Event()

        def handler(_: str, state: TwinState) -> None:
            seen.append(state)
            if state.revision == 4:
                arrived.set()

        reader = Twins(bus, clock, metrics, "reader/1")
        task = asyncio.create_task(await reader.following([TWIN_REPORTED], handler))
        for life in range(2):
            producer = Twins(bus, clock, Metrics("producer"), "slice_bandwidth/1")
            for number in range(2):
                await producer.publish(TWIN_REPORTED, "slice/n1", "slice_twin", table(2 * life + number))
        async with asyncio.timeout(20):
            await arrived.wait()
        await bus.stop()
        await task
        assert [(state.revision, state.table["delay_ms"][0]) for state in seen] == [(1, 0), (2, 1), (3, 2), (4, 3)]
        assert metrics.twins.labels("reader", "apply")._value.get() == 4


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        bus = MemoryBus(Metrics("bus"))
        await bus.start()
        yield bus
        await bus.stop()


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
class TestKafkaBus(BusContract):
    @pytest.fixture
    async def bus(self, kafka_node: Any) -> AsyncIterator[Bus]:
        from ric.bus.kafka import KafkaBus

        environ = {"TWINRIC_KAFKA__TOPIC_PREFIX": f"{uuid.uuid4().hex}.", "TWINRIC_KAFKA__PUBLISH_TIMEOUT_S": "20"}
        bus = KafkaBus.at(f"kafka://{kafka_node.address}", Metrics("bus"), client_id="test", environ=environ)
        await bus.start()
        yield bus
        await bus.stop()
