"""dApp reports over a RIC that goes away and comes back: the newest are told again to every new subscription."""

# ruff: noqa: B023 - what waits for a condition ends before its loop variable changes
import asyncio

import pytest

from e2sim.e2_agent import MAX_REPORTS, E2Agents
from e2sim.network import Network
from e2sim.scenario import parse_scenario
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.e2.platform import E2Platform
from ric.e2sm import dapp
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, PerceivedSeverity
from ric.platform import RicConfig, RicPlatform
from ric.telemetry import Metrics

NODE = "00101-e2000001"
SCENARIO = {
    "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 60, "windows": [{"start_s": 0, "duration_s": 60}],
    "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}],
}  # fmt: skip
pytestmark = pytest.mark.timeout(60)


def alarm(number, severity=PerceivedSeverity.PERCEIVED_SEVERITY_MAJOR):
    return Alarm(
        managed_object=f"feeder/{number}", application="fault_alarm", specific_problem="ARCING",
        perceived_severity=severity, event_time_ns=10**18, detected_time_ns=10**18 + int(severity),
        trace_id=f"{number:032x}",
    ).SerializeToString()  # fmt: skip


async def until(condition, limit_s=15.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_new_ric_is_told_the_newest_reports_in_their_order_and_only_once_each():
    seen = []
    agents = port = None
    for life in range(2):
        platform = E2Platform(Metrics("ric"), WallClock())
        ports = await platform.start(f"127.0.0.1:{port or 0}", "127.0.0.1:0")
        port = ports.nodes

        async def take(node_id, header, message):
            seen.append(dapp.decode_indication(header, message).alarm.managed_object)

        platform.on_dapp_report(take)
        if agents is None:
            agents = E2Agents(Network(parse_scenario(SCENARIO)), f"127.0.0.1:{port}", metrics=Metrics("e2sim"))
            await agents.start(5.0)
        agent = agents.agents[NODE]
        await until(lambda: agent._dapps.opened and set(agent._dapps.opened) == set(agent._told))
        await asyncio.sleep(0.3)
        assert seen == ([] if life == 0 else [f"feeder/{n}" for n in range(10, 10 + MAX_REPORTS)])
        if life == 0:
            for number in range(MAX_REPORTS + 9):
                await agent.report_dapp(1, number + 1, alarm(number), 10**18)
            await until(lambda: len(seen) == MAX_REPORTS + 9)
        await platform.stop()
        await until(lambda: not agent.connection.is_connected)
        if life == 0:
            await agent.report_dapp(1, 999, alarm(MAX_REPORTS + 9), 10**18)
        seen.clear()
    await agents.stop()


async def test_alarms_of_a_gap_are_raised_once_and_those_before_it_not_again(tmp_path):
    """The RIC dies between taking a report and the next; the DU repeats both."""
    bus, port, agents = MemoryBus(), 0, None
    free = {"xapp_address": "127.0.0.1:0", "a1_address": "127.0.0.1:0", "a1_port": 0, "data_dir": str(tmp_path)}
    for life in range(2):
        await bus.start()
        config = RicConfig.model_validate({**free, "node_address": f"127.0.0.1:{port}"})
        platform = RicPlatform(config, bus, WallClock(), Metrics("ric"), environ={})
        port = int((await platform.start()).nodes.rpartition(":")[2])
        if agents is None:
            agents = E2Agents(Network(parse_scenario(SCENARIO)), f"127.0.0.1:{port}", metrics=Metrics("e2sim"))
            await agents.start(5.0)
        agent = agents.agents[NODE]
        await until(lambda: agent._dapps.opened and agent._told == agent._dapps.opened)
        if life == 0:
            await agent.report_dapp(1, 1, alarm(1), 10**18)
            await agent.report_dapp(1, 2, alarm(2), 10**18)
            await agent.report_dapp(1, 3, alarm(1, PerceivedSeverity.PERCEIVED_SEVERITY_CLEARED), 10**18)
            await until(lambda: len(platform.faults.alarms.history()) == 1)
            await asyncio.sleep(0.1)
        else:
            await until(lambda: len(platform.faults.alarms.active()) == 2)
            await asyncio.sleep(0.3)
            active = {entry.alarm.key.managed_object: entry.repeats for entry in platform.faults.alarms.active()}
            assert active == {"feeder/2": 0, "feeder/7": 0}
            assert platform.faults.alarms.history() == []
        await platform.stop()
        if life == 0:
            await until(lambda: not agent.connection.is_connected)
            await agent.report_dapp(1, 4, alarm(7), 10**18)
    records = [Alarm.FromString(message.value).managed_object for message in bus._retained["ric.alarms"]]
    assert records == ["feeder/1", "feeder/2", "feeder/1", "feeder/7"]
    await agents.stop()
