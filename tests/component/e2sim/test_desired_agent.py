"""Homes told by desired state: the same run as over E2, and each node takes one way only."""

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


async def test_node_told_by_the_bus_refuses_e2_and_takes_nothing_unanswered(tmp_path):
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    clock, bus = SimClock(network.now_s), MemoryBus()
    await bus.start()
    app = Twins(bus, clock, Metrics("test"), "hems_load/1")
    first = await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, table, 300_000)
    agent = DesiredAgent(network, Twins(bus, clock, Metrics("test"), "e2sim/desired"))
    await agent.start()
    endless = await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, table)
    beyond = await app.publish(
        TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, set_points(network, 99.0)[1], 300_000
    )
    for _ in range(50):
        await clock.sleep_until(0)
    answers = {ack.revision: ack for ack in (decode_ack(m.value) for m in bus._retained[TWIN_ACK])}
    await agent.stop()
    await bus.stop()
    assert answers[first.revision].status is AckStatus.ACCEPTED
    assert "valid_for_ms" in answers[endless.revision].reason
    assert answers[beyond.revision].status is AckStatus.REJECTED
    assert "battery_kw" in answers[beyond.revision].reason
    assert node.parts.residential.fleet._wanted[:, 0].max() == 1.0
    header, message = grid.encode_control(grid.GridControl(table, to_ns(network.now_s + 60), "TEST"))
    with pytest.raises(TwinRicError, match=r"twin\.desired"):
        await GridFunction(node, network.now_s).control(header, message)


async def test_node_told_over_e2_rejects_desired_state():
    network = Network(scenario(by_bus=False))
    node, table = set_points(network)
    clock, bus = SimClock(network.now_s), MemoryBus()
    await bus.start()
    agent = DesiredAgent(network, Twins(bus, clock, Metrics("test"), "e2sim/desired"))
    await agent.start()
    app = Twins(bus, clock, Metrics("test"), "hems_load/1")
    await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, table, 300_000)
    for _ in range(50):
        await clock.sleep_until(0)
    (answer,) = [decode_ack(message.value) for message in bus._retained[TWIN_ACK]]
    await agent.stop()
    await bus.stop()
    assert answer.status is AckStatus.REJECTED
    assert "obeys E2" in answer.reason
    assert not node.parts.residential.fleet._wanted[:, 0].any()


async def test_desired_state_of_an_earlier_run_of_the_same_days_is_not_put_in_force():
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    clock, bus = SimClock(network.now_s), MemoryBus()
    await bus.start()
    app = Twins(bus, clock, Metrics("test"), "hems_load/1")
    ahead = Table(table.kind, table.ids, table.columns, to_ns(network.now_s + 600))
    await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, ahead, 300_000)
    agent = DesiredAgent(network, Twins(bus, clock, Metrics("test"), "e2sim/desired"))
    await agent.start()
    assert not agent.busy
    assert not node.parts.residential.fleet._wanted[:, 0].any()
    await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, table, 300_000)
    for _ in range(50):
        await clock.sleep_until(0)
    (answer,) = [decode_ack(message.value) for message in bus._retained[TWIN_ACK]]
    await agent.stop()
    await bus.stop()
    assert (answer.revision, answer.status) == (2, AckStatus.ACCEPTED)
    assert node.parts.residential.fleet._wanted[:, 0].max() == 1.0


async def test_desired_state_that_comes_too_late_is_answered_as_expired_and_not_put_in_force():
    network = Network(scenario(by_bus=True))
    node, table = set_points(network)
    clock, bus = SimClock(network.now_s), MemoryBus()
    await bus.start()
    agent = DesiredAgent(network, Twins(bus, clock, Metrics("test"), "e2sim/desired"))
    await agent.start()
    await clock.advance_to(network.now_s + 301)
    app = Twins(bus, clock, Metrics("test"), "hems_load/1")
    await app.publish(TWIN_DESIRED, f"home_set_point/{node.e2_node_id}", table.kind, table, 300_000)
    await app.publish(TWIN_DESIRED, "home_set_point/00101-e2000009", table.kind, table, 300_000)
    for _ in range(50):
        await clock.sleep_until(0)
    (answer,) = [decode_ack(message.value) for message in bus._retained[TWIN_ACK]]
    await agent.stop()
    await bus.stop()
    assert (answer.status, answer.twin_id) == (AckStatus.EXPIRED, f"home_set_point/{node.e2_node_id}")
    assert "300000 ms" in answer.reason
    assert not node.parts.residential.fleet._wanted[:, 0].any()
