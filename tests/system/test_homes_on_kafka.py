"""Homes told by desired state over Apache Kafka: through the death of the broker, of their gateway and of the HEMS."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from e2sim.desired_agent import DesiredAgent
from e2sim.network import Network
from e2sim.scenario import parse_scenario
from ric.bus.bus import RIC_ALARMS, RIC_DECISIONS, TWIN_ACK, TWIN_DESIRED
from ric.bus.bus import Twins as BusTwins
from ric.bus.kafka import KafkaBus
from ric.bus.record import Ack, AckStatus, TwinState, decode, decode_ack
from ric.clock import SimClock, to_ns
from ric.columns import Table
from ric.e2sm import grid
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED, Alarm, DecisionRecord
from ric.runtime import AppRuntime
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS
from ric.telemetry import Metrics
from xapps.hems_load.app import HemsLoadApp
from xapps.hems_load.config import HemsConfig

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

PATIENCE_S = 75.0
SCENARIO = {
    "name": "homes", "seed": 5, "start": "2016-04-19T17:00:00Z", "duration_s": 1200,
    "nodes": [{"gnb_id": 0xE2000001, "residential": {"homes": 6}, "desired_by_bus": True}],
}  # fmt: skip


def bus_at(address: str, name: str) -> KafkaBus:
    settings = {"TWINRIC_KAFKA__PUBLISH_TIMEOUT_S": "1", "TWINRIC_KAFKA__PARTITIONS": "1"}
    return KafkaBus.at(f"kafka://{address}", Metrics(name), client_id=name, environ=settings)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


class Peer:
    """The node's E2 side as the app's client shows it: reports only, its homes take nothing from here."""

    handler: Any = None

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def follow(self, service_model: object, *, trigger: bytes, action: bytes, handler: Any) -> None:
        self.handler = handler
        await asyncio.Event().wait()

    async def control(self, node: str, service_model: object, header: bytes, *_: bytes, deadline_s: float) -> bytes:
        pytest.fail("homes told over the bus were told over E2")


class Homes:
    """The node: its homes, what they were told, and the gateway between them and the bus."""

    def __init__(self) -> None:
        self.network = Network(parse_scenario(SCENARIO))
        self.clock = SimClock(self.network.now_s)
        (self.node,) = self.network.nodes.values()
        self.applied: list[tuple[str, int]] = []
        apply = self.node.apply

        def counted(set_points: Table, valid_until_s: float) -> Table:
            in_force = apply(set_points, valid_until_s)
            self.applied.append((set_points.kind, set_points.source_time_ns))
            return in_force

        self.node.apply = counted  # type: ignore[method-assign]

    async def join(self, address: str) -> AsyncExitStack:
        """A gateway's life; closing what this returns ends it."""
        async with AsyncExitStack() as stack:
            bus = bus_at(address, "homes")
            stack.push_async_callback(bus.stop)
            await bus.start()
            agent = DesiredAgent(self.network, BusTwins(bus, self.clock, Metrics("homes"), "e2sim/desired"))
            stack.push_async_callback(agent.stop)
            await agent.start()
            return stack.pop_all()

    async def minute(self) -> tuple[bytes, bytes]:
        """Live for a minute; the indication that tells of it."""
        tables: dict[str, Table] = {}
        end_s = self.network.now_s + 60
        self.network.listeners.append(lambda _, sample: tables.update(sample.tables))
        self.network.advance(end_s)
        self.network.listeners.clear()
        await self.clock.advance_to(end_s)
        shown = {kind: table for kind, table in tables.items() if kind in GRID_SCHEMAS}
        in_force = {kind: table for kind, table in tables.items() if kind in IN_FORCE_SCHEMAS}
        starts_ns = {"home_report": to_ns(end_s - 60)}
        return grid.encode_indication(grid.GridReport(self.node.e2_node_id, to_ns(end_s), shown, in_force, starts_ns))


class Hems:
    """The app in its runtime, one life."""

    def __init__(self, homes: Homes, address: str) -> None:
        config = HemsConfig(
            a1_address="", enforce_budget=False, quarter_steps=24, desired_by_bus=(homes.node.e2_node_id,),
            confirm_within_s=120.0,
        )  # fmt: skip
        self.homes, self.peer, self.bus = homes, Peer(), bus_at(address, "hems")
        links = Links(HemsLoadApp.spec, HemsLoadApp.policy_type, config, homes.clock, bus=self.bus)
        links.e2 = self.peer  # type: ignore[assignment]
        self.runtime = AppRuntime(HemsLoadApp, config, links)

    async def __aenter__(self) -> Hems:
        await self.bus.start()
        self._task = asyncio.create_task(self.runtime.run())
        await until(lambda: self.runtime.ready.is_set() and self.peer.handler is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runtime.stop()
        await self._task
        await self.bus.stop()

    async def minutes(self, number: int) -> None:
        """A cycle for each minute that the homes live."""
        for _ in range(number):
            indication = await self.homes.minute()
            self.peer.handler(self.homes.node.e2_node_id, *indication)
            async with asyncio.timeout(PATIENCE_S):
                await self.runtime.wait_done(to_ns(self.homes.network.now_s))


class Watch:
    """Everything that the bus carries, from the start."""

    def __init__(self, bus: KafkaBus) -> None:
        self.desired: dict[int, TwinState] = {}
        self.answers: list[Ack] = []
        self.decisions: list[DecisionRecord] = []
        self.alarms: list[Alarm] = []
        self._messages = bus.follow((TWIN_DESIRED, TWIN_ACK, RIC_DECISIONS, RIC_ALARMS), from_start=True)

    async def run(self) -> None:
        async for message in self._messages:
            if message.topic == TWIN_DESIRED and message.key.startswith("home_set_point/"):
                state = decode(message.value)
                self.desired[state.revision] = state
            elif message.topic == TWIN_ACK and message.key.startswith("home_set_point/"):
                self.answers.append(decode_ack(message.value))
            elif message.topic == RIC_DECISIONS:
                self.decisions.append(DecisionRecord.FromString(message.value))
            elif message.topic == RIC_ALARMS:
                self.alarms.append(Alarm.FromString(message.value))

    async def answered(self, revision: int) -> None:
        """Return when the homes have answered it, and it was seen; two topics keep no order between them."""
        await until(lambda: revision in self.desired and any(answer.revision == revision for answer in self.answers))


async def test_homes_on_kafka_follow_what_they_are_told_whoever_dies_in_between(kafka_tools: ModuleType) -> None:
    homes = Homes()
    with kafka_tools.broker(own=True) as node:
        bus = bus_at(node.address, "watch")
        await bus.start()
        watch = Watch(bus)
        watching = asyncio.create_task(watch.run())
        gateway = await homes.join(node.address)
        async with Hems(homes, node.address) as hems:
            await hems.minutes(2)
            await watch.answered(2)
            await asyncio.to_thread(node.kill)
            await hems.minutes(2)  # nobody can be told; the homes keep what they have
            assert [time_ns for _, time_ns in homes.applied if time_ns > watch.desired[2].source_time_ns] == []
            await asyncio.to_thread(node.start)
            await watch.answered(4)  # what was on its way is delivered
            await hems.minutes(1)
            await watch.answered(5)
        await gateway.aclose()
        async with Hems(homes, node.address) as hems:
            await hems.minutes(1)  # the gateway is away: the topic holds it
            gateway = await homes.join(node.address)
            await watch.answered(6)
            await hems.minutes(2)
            await watch.answered(8)
            await homes.minute()
        await gateway.aclose()
        await bus.stop()
        await watching
    gc.collect()
    newest = watch.desired[8]
    report = homes.node.latest.tables["home_report"]  # type: ignore[union-attr]
    np.testing.assert_allclose(report["battery_kw"], newest.table["battery_kw"], atol=0.1)
    assert sorted(watch.desired) == list(range(1, 9))
    assert Counter(answer.revision for answer in watch.answers) == dict.fromkeys(range(1, 9), 1)
    assert {answer.status for answer in watch.answers} == {AckStatus.ACCEPTED}
    times = [state.source_time_ns for _, state in sorted(watch.desired.items())]
    assert [time_ns for kind, time_ns in homes.applied if kind == "home_set_point"] == times
    assert {alarm.perceived_severity for alarm in watch.alarms} == {PERCEIVED_SEVERITY_CLEARED}
    assert "BUS-UNREACHABLE" in "".join(decision.details.get("action_fault", "") for decision in watch.decisions)
