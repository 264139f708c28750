"""Homes told by desired state: the same run as over E2, and each node takes one way only."""

from contextlib import asynccontextmanager

import pytest

from e2sim.desired_agent import DesiredAgent
from e2sim.network import Network
from e2sim.ran_functions import GridFunction
from e2sim.record import RunRecord
from e2sim.scenario import parse_scenario
from e2sim.system import System, installed_apps
from ric.bus.bus import TWIN_ACK, TWIN_DESIRED, MemoryBus, Twins
from ric.bus.record import AckStatus, decode_ack
from ric.clock import SimClock, to_ns
from ric.columns import Table
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED
from ric.telemetry import Metrics

pytestmark = [pytest.mark.timeout(120)]


def scenario(*, by_bus, duration_s=1200):
    return parse_scenario({
        "name": "ways", "seed": 5, "start": "2016-04-19T17:00:00Z", "duration_s": duration_s, "kpm_period_ms": 1000,
        "nodes": [{"gnb_id": 0xE2000001, "residential": {"homes": 8}, "desired_by_bus": by_bus}],
    })  # fmt: skip


async def run(tmp_path, *, by_bus):
    record = RunRecord(Network(scenario(by_bus=by_bus)))
    apps = {"hems_load": installed_apps()["hems_load"]}
    async with System(record.network, tmp_path, apps) as system:
        await system.run()
        answers = [decode_ack(message.value) for message in system.bus._retained[TWIN_ACK]]
    (node,) = record.network.nodes
    return record.totals(node), answers, system.journal


async def test_homes_told_by_the_bus_do_exactly_as_those_told_over_e2(tmp_path):
    over_e2, none, _ = await run(tmp_path / "e2", by_bus=False)
    by_bus, answers, journal = await run(tmp_path / "bus", by_bus=True)
    assert by_bus == over_e2
    assert not none
    assert len([a for a in answers if a.twin_id.startswith("home_set_point/")]) == 20
    assert {answer.status for answer in answers} == {AckStatus.ACCEPTED}
    assert {alarm.perceived_severity for alarm in journal.alarms} == {PERCEIVED_SEVERITY_CLEARED}
    assert not any("action_fault" in decision.details for decision in journal.decisions)


def set_points(network, battery_kw=1.0):
    node = next(iter(network.nodes.values()))
    fleet = node.parts.residential.fleet
    columns = dict.fromkeys(("battery_kw", "ev_kw", "hvac_kw", "pv_limit_kw", "wind_limit_kw"), 0.0)
    has = fleet.devices.battery_max_kw > 1
    values = {name: has * battery_kw if name == "battery_kw" else 0.0 * has for name in columns}
    return node, Table("home_set_point", fleet.ids, values, to_ns(network.now_s))


class Bus:
    """A bus in memory on simulated time with an app that desires home set-points of one node."""

    def __init__(self, network, node):
        self._network, self._node = network, node
        self.clock, self.bus = SimClock(network.now_s), MemoryBus()
        self._app = self.twins("hems_load/1")

    def twins(self, producer):
        return Twins(self.bus, self.clock, Metrics("test"), producer)

    async def desire(self, table, valid_for_ms=300_000, node=None):
        twin_id = f"home_set_point/{node or self._node.e2_node_id}"
        return await self._app.publish(TWIN_DESIRED, twin_id, table.kind, table, valid_for_ms)

    @asynccontextmanager
    async def agent(self):
        """The simulator's agent, from here to the block's end."""
        agent = DesiredAgent(self._network, self.twins("e2sim/desired"))
        await agent.start()
        yield agent
        await agent.stop()

    async def answers(self):
        """What `twin.ack` holds once all has been taken in."""
        for _ in range(50):
            await self.clock.sleep_until(0)
        return [decode_ack(message.value) for message in self.bus._retained[TWIN_ACK]]


@asynccontextmanager
async def bus_of(network, node):
    made = Bus(network, node)
    await made.bus.start()
    yield made
    await made.bus.stop()


def wanted(node):
    """Battery power that each home was told last."""
    return node.parts.residential.fleet._wanted[:, 0]


async def test_node_told_by_the_bus_refuses_e2_and_takes_nothing_unanswered():
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    async with bus_of(network, node) as bus:
        first = await bus.desire(table)
        async with bus.agent():
            endless = await bus.desire(table, 0)
            beyond = await bus.desire(set_points(network, 99.0)[1])
            answers = {ack.revision: ack for ack in await bus.answers()}
    assert answers[first.revision].status is AckStatus.ACCEPTED
    assert "valid_for_ms" in answers[endless.revision].reason
    assert answers[beyond.revision].status is AckStatus.REJECTED
    assert "battery_kw" in answers[beyond.revision].reason
    assert wanted(node).max() == 1.0
    header, message = grid.encode_control(grid.GridControl(table, to_ns(network.now_s + 60), "TEST"))
    with pytest.raises(TwinRicError, match=r"twin\.desired"):
        await GridFunction(node, network.now_s).control(header, message)


async def test_node_told_over_e2_rejects_desired_state():
    network = Network(scenario(by_bus=False))
    node, table = set_points(network)
    async with bus_of(network, node) as bus, bus.agent():
        await bus.desire(table)
        (answer,) = await bus.answers()
    assert answer.status is AckStatus.REJECTED
    assert "obeys E2" in answer.reason
    assert not wanted(node).any()


async def test_desired_state_of_an_earlier_run_of_the_same_days_is_not_put_in_force():
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    async with bus_of(network, node) as bus:
        await bus.desire(Table(table.kind, table.ids, table.columns, to_ns(network.now_s + 600)))
        async with bus.agent() as agent:
            assert not agent.busy
            assert not wanted(node).any()
            await bus.desire(table)
            (answer,) = await bus.answers()
    assert (answer.revision, answer.status) == (2, AckStatus.ACCEPTED)
    assert wanted(node).max() == 1.0


async def test_desired_state_that_comes_too_late_is_answered_as_expired_and_not_put_in_force():
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    async with bus_of(network, node) as bus, bus.agent():
        await bus.clock.advance_to(network.now_s + 301)
        await bus.desire(table)
        await bus.desire(table, node="00101-e2000009")
        (answer,) = await bus.answers()
    assert (answer.status, answer.twin_id) == (AckStatus.EXPIRED, f"home_set_point/{node.e2_node_id}")
    assert "300000 ms" in answer.reason
    assert not wanted(node).any()
