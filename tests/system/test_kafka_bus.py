"""The bus when brokers and apps die: what was acknowledged is kept, and twins go on where they were."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ric.bus.bus import RIC_ALARMS, TWIN_REPORTED, Twins
from ric.bus.record import TwinState
from ric.clock import WallClock
from ric.columns import Table
from ric.errors import TwinRicError
from ric.telemetry import Metrics

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),
]

TWIN = "slice/n1"

PUBLISHER = """
import asyncio, sys, warnings
import numpy as np
warnings.simplefilter("ignore", DeprecationWarning)
from ric.bus.bus import Twins, open_bus
from ric.clock import WallClock, to_ns
from ric.columns import Table
from ric.telemetry import Metrics

async def main():
    clock, metrics = WallClock(), Metrics("publisher")
    bus = open_bus(sys.argv[1], metrics, client_id="publisher")
    await bus.start()
    twins = Twins(bus, clock, metrics, "publisher/1")
    while True:
        columns = {n: np.ones(1) for n in ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")}
        table = Table("slice_twin", ("1-000001",), columns, to_ns(clock.now_s()))
        state = await twins.publish("twin.reported", "slice/n1", "slice_twin", table)
        print(state.revision, flush=True)

asyncio.run(main())
"""


def table(value: float) -> Table:
    columns = {name: np.array([value]) for name in ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")}
    return Table("slice_twin", ("1-000001",), columns, 1_700_000_000 * 10**9)


def kafka_bus(address: str, **environ: str) -> Any:
    from ric.bus.kafka import KafkaBus

    settings = {f"TWINRIC_KAFKA__{key.upper()}": value for key, value in environ.items()}
    return KafkaBus.at(f"kafka://{address}", Metrics("bus"), client_id="test", environ=settings)


@pytest.fixture
async def prefixed(kafka_node: Any) -> AsyncIterator[tuple[Any, str]]:
    """A started bus with topics of its own, and their prefix."""
    prefix = f"{uuid.uuid4().hex}."
    bus = kafka_bus(kafka_node.address, topic_prefix=prefix)
    await bus.start()
    yield bus, prefix
    await bus.stop()


PATIENCE_S = 120.0
"""On a loaded machine a JVM takes half a minute to start, and what waits for it waits that long."""


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


# kafka-python 3.0 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_broker_killed_and_started_again_loses_nothing_that_was_acknowledged(kafka_tools: ModuleType) -> None:
    metrics = Metrics("reader")
    seen: list[TwinState] = []
    accepted: list[int] = []
    with kafka_tools.broker(own=True) as node:
        bus = kafka_bus(node.address, publish_timeout_s="5")
        await bus.start()
        reader = Twins(bus, WallClock(), metrics, "reader/1")
        task = asyncio.create_task(await reader.following([TWIN_REPORTED], lambda _, state: seen.append(state)))
        producer = Twins(bus, WallClock(), Metrics("producer"), "producer/1")

        async def publish() -> bool:
            try:
                state = await producer.publish(TWIN_REPORTED, TWIN, "slice_twin", table(len(accepted) % 20))
            except TwinRicError:
                return False
            accepted.append(state.revision)
            return True

        assert [await publish() for _ in range(5)] == [True] * 5
        await until(lambda: len(seen) == 5)
        await asyncio.to_thread(node.kill)
        assert [await publish() for _ in range(3)] == [False] * 3
        await asyncio.to_thread(node.start)
        async with asyncio.timeout(PATIENCE_S):
            while not await publish():
                await asyncio.sleep(0.1)
        await until(lambda: seen[-1].revision == accepted[-1])
        rebuilt = await Twins(bus, WallClock(), Metrics("other"), "other/1").rebuild(TWIN_REPORTED)
        await bus.stop()
        await task
    gc.collect()
    revisions = [state.revision for state in seen]
    assert revisions == sorted(set(revisions))
    assert set(accepted) <= set(revisions)
    assert metrics.refused.labels("reader", "BUS-TAMPERED")._value.get() == 0
    assert rebuilt[TWIN].state_hash == seen[-1].state_hash


async def test_app_killed_in_mid_publication_goes_on_in_the_same_chain(prefixed: tuple[Any, str]) -> None:
    bus, prefix = prefixed
    metrics = Metrics("reader")
    seen: list[TwinState] = []
    reader = Twins(bus, WallClock(), metrics, "reader/1")
    task = asyncio.create_task(await reader.following([TWIN_REPORTED], lambda _, state: seen.append(state)))
    url = "kafka://" + ",".join(bus._servers)
    for life in range(2):
        publisher = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PUBLISHER, url, stdout=subprocess.PIPE,
            env={"TWINRIC_KAFKA__TOPIC_PREFIX": prefix, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert publisher.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(10):
                told = int(await publisher.stdout.readline())
        publisher.kill()
        await publisher.communicate()
        await until(lambda: seen and seen[-1].revision >= told)  # noqa: B023
        if life == 0:
            before = seen[-1].revision
    await bus.stop()
    await task
    revisions = [state.revision for state in seen]
    assert revisions == list(range(1, len(seen) + 1))
    assert told > before >= 10
    for verdict in ("gap", "tampered", "old"):
        assert metrics.twins.labels("reader", verdict)._value.get() == 0


async def test_topics_are_made_with_the_retention_that_their_content_asks_for(prefixed: tuple[Any, str]) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    bus, prefix = prefixed

    def read() -> dict[str, dict[str, str]]:
        admin = KafkaAdminClient(bootstrap_servers=bus._servers)
        try:
            found = {}
            for topic in (TWIN_REPORTED, RIC_ALARMS):
                resource = ConfigResource(ConfigResourceType.TOPIC, prefix + topic)
                described = admin.describe_configs([resource])
                found[topic] = {name: entry["value"] for name, entry in described["topic"][prefix + topic].items()}
            return found
        finally:
            admin.close()

    configs = await asyncio.to_thread(read)
    assert configs[TWIN_REPORTED]["cleanup.policy"] == "compact"
    assert configs[RIC_ALARMS].get("cleanup.policy", "delete") == "delete"
    assert configs[RIC_ALARMS]["retention.ms"] == str(30 * 24 * 3600 * 1000)
    assert int(configs[RIC_ALARMS]["max.message.bytes"]) > 8 * 1024 * 1024


async def test_many_apps_may_make_the_topics_at_once(kafka_node: Any) -> None:
    prefix = f"{uuid.uuid4().hex}."
    buses = [kafka_bus(kafka_node.address, topic_prefix=prefix) for _ in range(4)]
    await asyncio.gather(*(bus.start() for bus in buses))
    feed = buses[0].follow([RIC_ALARMS])
    await buses[3].publish(RIC_ALARMS, "feeder/1", b"alarm", {})
    async with asyncio.timeout(20):
        assert (await anext(feed)).value == b"alarm"
    await asyncio.gather(*(bus.stop() for bus in buses))


async def test_start_without_a_broker_names_the_address(kafka_tools: ModuleType) -> None:
    address = f"127.0.0.1:{kafka_tools.free_ports(1)[0]}"
    bus = kafka_bus(address, connect_timeout_s="1")
    with pytest.raises(TwinRicError, match=rf"BUS-UNREACHABLE bus = 'kafka://{address}'"):
        await bus.start()
    await bus.stop()
