"""The xApp as it is deployed, against a RIC and a node with simulated microgrids over loopback gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from e2sim.grid.microgrids import Microgrids, MicrogridsConfig
from ric.bus.bus import RIC_ALARMS, RIC_DECISIONS, TWIN_REPORTED, MemoryBus
from ric.bus.record import decode
from ric.clock import SimClock, to_ns
from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import E2NodeConnection, NodeSubscription
from ric.e2.platform import E2Platform
from ric.e2sm import grid
from ric.e2sm.grid import GridReport
from ric.links import Links
from ric.pb.twinric.bus.v1 import record_pb2
from ric.runtime import AppRuntime
from ric.telemetry import Metrics
from xapps.microgrid_guard.app import MicrogridGuardApp
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.model import MODEL_PATH

START_S = 1_700_000_000.0
NODE = NodeIdentity("00101", 0xE2000001)


@dataclass
class GridFunction:
    """The node's grid service model over simulated microgrids."""

    microgrids: Microgrids
    definition: RanFunction = field(default_factory=lambda: RanFunction(grid.RAN_FUNCTION_ID, grid.OID))
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    controls: list[grid.GridControl] = field(default_factory=list)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        [action] = subscription.actions
        self.asked.append((grid.decode_trigger(subscription.event_trigger), grid.decode_action(action.definition)))
        return [action.ric_action_id]

    async def delete(self, subscription: NodeSubscription) -> None:
        return

    async def control(self, header: bytes, message: bytes) -> bytes:
        control = grid.decode_control(header, message)
        self.controls.append(control)
        return grid.encode_outcome(self.microgrids.apply(control.set_points, control.valid_until_ns / 1e9))


class House:
    """RIC, node, bus and clock; `guard` runs the xApp in it."""

    def __init__(self, platform: E2Platform, ports: object, microgrids: Microgrids) -> None:
        self.platform, self.ports = platform, ports
        self.clock, self.bus = SimClock(START_S), MemoryBus()
        self.function = GridFunction(microgrids)
        self.node = E2NodeConnection(f"127.0.0.1:{ports.nodes}", NODE, [self.function], metrics=Metrics("e2_node"))
        self.alarms = self.bus.follow((RIC_ALARMS,))
        self.decisions = self.bus.follow((RIC_DECISIONS,))

    @asynccontextmanager
    async def guard(self, **settings: object) -> AsyncIterator[AppRuntime]:
        address = f"127.0.0.1:{self.ports.xapps}"
        config = GuardConfig(e2_address=address, a1_address="", enforce_budget=False, **settings)
        links = Links(MicrogridGuardApp.spec, MicrogridGuardApp.policy_type, config, self.clock, bus=self.bus)
        runtime = AppRuntime(MicrogridGuardApp, config, links)
        running = asyncio.create_task(runtime.run())
        async with asyncio.timeout(10):
            while not self.node.subscriptions:
                await asyncio.sleep(0.01)
        yield runtime
        runtime.stop()
        await running
        async with asyncio.timeout(10):
            while self.node.subscriptions:
                await asyncio.sleep(0.01)

    async def steps(self, runtime: AppRuntime, number: int, dt_s: float = 0.1) -> None:
        for _ in range(number):
            now_s = round(self.clock.now_s() + dt_s, 3)
            tables = self.function.microgrids.step(now_s, dt_s)
            await self.clock.advance_to(now_s)
            report = GridReport(NODE.e2_node_id, to_ns(now_s), {table.kind: table for table in tables[:2]})
            header, message = grid.encode_indication(report)
            for request in list(self.node.subscriptions):
                await self.node.indicate(request, grid.RAN_FUNCTION_ID, 0, header, message)
            async with asyncio.timeout(10):
                await runtime.wait_done(to_ns(now_s))

    async def told(self) -> list[record_pb2.Alarm]:
        """Alarms since the last call."""
        alarms = []
        while True:
            try:
                message = await asyncio.wait_for(anext(self.alarms), 0.05)
            except TimeoutError:
                return alarms
            alarms.append(record_pb2.Alarm.FromString(message.value))

    def shares(self) -> np.ndarray:
        report = self.function.microgrids.report()[0]
        return report["dg_power_kw"] / report["rated_kw"]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    platform = E2Platform(Metrics("ric"), SimClock(START_S))
    ports = await platform.start("127.0.0.1:0", "127.0.0.1:0")
    microgrids = Microgrids(MicrogridsConfig(step_mean_s=0.0), np.random.default_rng(5), START_S)
    made = House(platform, ports, microgrids)
    await made.node.start()
    await made.node.connected(5.0)
    yield made
    await made.node.stop()
    await platform.stop()


async def test_app_attack_is_alarmed_once_taken_over_survives_a_restart_and_is_cleared_once(house: House):
    async with house.guard() as runtime:
        await house.steps(runtime, 60)
        assert house.function.asked == [(100, ("microgrid_report", "pcc_report"))]
        assert await house.told() == []
        house.function.microgrids.attack(1)
        await house.steps(runtime, 150)
        [alarm] = await house.told()
        assert alarm.managed_object == "microgrid/MG2/agent"
        assert (alarm.application, alarm.specific_problem) == ("microgrid_guard", "DOS")
        assert alarm.perceived_severity == record_pb2.PERCEIVED_SEVERITY_MAJOR
        assert alarm.detection_ms == pytest.approx(1_000, abs=1)
        assert alarm.identifying_info == NODE.e2_node_id
        assert np.ptp(house.shares()) < 0.06
        assert {control.set_points.ids for control in house.function.controls} == {("MG2",)}
        twin = decode((await house.bus.latest(TWIN_REPORTED))[f"microgrid/{NODE.e2_node_id}"].value)
        assert twin.table["taken_over"].tolist() == [0, 2, 0]
        assert twin.source_time_ns == to_ns(house.clock.now_s())
    async with house.guard() as runtime:
        await house.steps(runtime, 50)
        assert await house.told() == []
        assert np.ptp(house.shares()) < 0.06
        house.function.microgrids.attack(1, on=False)
        await house.steps(runtime, 50)
        [cleared] = await house.told()
        assert cleared.perceived_severity == record_pb2.PERCEIVED_SEVERITY_CLEARED
        identity = ("managed_object", "application", "specific_problem", "identifying_info")
        assert [getattr(cleared, name) for name in identity] == [getattr(alarm, name) for name in identity]
        assert house.function.controls[-1].set_points["in_consensus"].tolist() == [0.0]


async def test_app_without_a_model_says_so_and_holds_the_last_good_value(house: House, tmp_path: Path):
    (tmp_path / "torn.onnx").write_bytes(MODEL_PATH.read_bytes()[:200])
    for path, code in ((tmp_path / "none.onnx", "MODEL_MISSING"), (tmp_path / "torn.onnx", "MODEL_SHAPE")):
        async with house.guard(model_path=path) as runtime:
            await house.steps(runtime, 3)
            assert runtime.metrics.safe_actions.labels("microgrid_guard", code)._value.get() == 3
            decision = record_pb2.DecisionRecord.FromString((await anext(house.decisions)).value)
            assert decision.safe_action
            house.decisions = house.bus.follow((RIC_DECISIONS,))
    async with house.guard(model_path=tmp_path / "none.onnx") as runtime:
        await house.steps(runtime, 10)
        house.function.microgrids.attack(0)
        await house.steps(runtime, 150)
        assert [alarm.managed_object for alarm in await house.told()] == ["microgrid/MG1/agent"]
        assert np.ptp(house.shares()) < 0.06


async def test_app_malformed_reports_are_refused_and_counted(house: House):
    async with house.guard() as runtime:
        await house.steps(runtime, 2)
        good = GridReport(
            NODE.e2_node_id, to_ns(START_S + 1), {t.kind: t for t in house.function.microgrids.report()[:1]}
        )
        header, half = grid.encode_indication(good)
        for request in list(house.node.subscriptions):
            for message in (half, b"\xff\xff\xff"):
                await house.node.indicate(request, grid.RAN_FUNCTION_ID, 0, header, message)
        await house.steps(runtime, 2)
        refused = runtime.metrics.refused
        assert refused.labels("microgrid_guard", "E2-RANGE")._value.get() == 1
        assert refused.labels("microgrid_guard", "E2-MALFORMED")._value.get() == 1
