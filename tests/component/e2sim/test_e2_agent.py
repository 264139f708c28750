"""Simulated nodes on a real E2 termination, over loopback gRPC."""

import asyncio
import contextlib

import numpy as np
import pytest

from e2sim.e2_agent import E2Agents
from e2sim.engine import Engine
from e2sim.network import Network
from e2sim.scenario import load_scenario, parse_scenario
from ric.clock import SimClock, WallClock, to_ns
from ric.columns import Table
from ric.e2.client import E2Client
from ric.e2.platform import E2Platform
from ric.e2sm import ccc, dapp, grid, kpm
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.telemetry import Metrics

NODE = "00101-e2000001"
KPM, CCC = (kpm.NAME, kpm.VERSION), (ccc.NAME, ccc.VERSION)
GRID, DAPP = (grid.NAME, grid.VERSION), (dapp.NAME, dapp.VERSION)


class House:
    def __init__(self, network, agents, client, platform):
        self.network, self.agents, self.client, self.platform = network, agents, client, platform
        self.instants = network.scenario.instants()

    def subscribe(self, model, trigger, action):
        """A queue of indications that fills once the node has admitted the subscription."""
        queue = asyncio.Queue()

        async def fill():
            with contextlib.suppress(TwinRicError):
                name = f"{model[0]}-{trigger.hex()}"
                stream = self.client.subscribe(NODE, model, trigger=trigger, action=action, transaction_id=name)
                async for pair in stream:
                    queue.put_nowait(pair)

        return queue, asyncio.ensure_future(fill())

    async def admitted(self, number):
        connection = self.agents.agents[NODE].connection
        async with asyncio.timeout(5):
            while len(connection.subscriptions) < number:
                await asyncio.sleep(0.005)

    async def step(self):
        end_s = next(self.instants)
        self.network.advance(end_s)
        await self.agents.publish(end_s)
        return end_s


@contextlib.asynccontextmanager
async def house(scenario):
    platform = E2Platform(Metrics("ric"), WallClock())
    ports = await platform.start("127.0.0.1:0", "127.0.0.1:0")
    network = Network(scenario)
    agents = E2Agents(network, f"127.0.0.1:{ports.nodes}", metrics=Metrics("e2sim"))
    async with E2Client(f"127.0.0.1:{ports.xapps}", app_id="test", instance_id="1") as client:
        await agents.start(5.0)
        try:
            yield House(network, agents, client, platform)
        finally:
            await agents.stop()
            await platform.stop()


def plain(**changes):
    return parse_scenario({
        "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 60, "windows": [{"start_s": 0, "duration_s": 60}],
        "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}], **changes,
    })  # fmt: skip


async def next_of(queue):
    return await asyncio.wait_for(queue.get(), 5)


async def test_acknowledged_slots_are_those_of_the_next_indication():
    async with house(plain()) as made:
        queue, task = made.subscribe(KPM, kpm.encode_trigger(100), kpm.encode_action())
        await made.admitted(1)
        await made.step()
        before = kpm.decode_indication(*await next_of(queue))
        np.testing.assert_array_equal(before.of("TWINRIC.FlexeSlots"), [5, 10, 5])
        asked = tuple(
            ccc.SliceRatio(s_nssai=item.s_nssai, rrm_policy_dedicated_ratio=ratio)
            for item, ratio in zip(before.items, (40, 40, 20), strict=True)
        )
        outcome = await made.client.control(NODE, CCC, *ccc.encode_control(asked), deadline_s=5)
        assert ccc.decode_outcome(outcome) == asked
        end_s = await made.step()
        after = kpm.decode_indication(*await next_of(queue))
        np.testing.assert_array_equal(after.of("TWINRIC.FlexeSlots"), [8, 8, 4])
        assert after.source_time_ns == round(end_s * 1e6) * 1_000
        assert after.e2_node_id == NODE
        task.cancel()


async def test_refused_control_names_the_bound_and_changes_nothing():
    async with house(plain()) as made:
        asked = (ccc.SliceRatio(s_nssai="1-000002", rrm_policy_dedicated_ratio=45),)
        with pytest.raises(TwinRicError) as error:
            await made.client.control(NODE, CCC, *ccc.encode_control(asked), deadline_s=5)
        assert "flexe_slots[1-000002]" in str(error.value)
        assert tuple(made.network.nodes[NODE].ran.calendar.slots) == (5, 10, 5)


async def test_dapp_report_reaches_an_xapp_at_once():
    async with house(plain()) as made:
        queue, task = made.subscribe(DAPP, b"", b"")
        await made.admitted(1)
        alarm = Alarm(managed_object="feeder/1", specific_problem="PHASE_TO_GROUND")
        agent = made.agents.agents[NODE]
        assert await agent.report_dapp(3, 7, alarm.SerializeToString(), 12_000) == 1
        report = dapp.decode_indication(*await next_of(queue))
        assert (report.alarm, report.dapp_identifier, report.sequence_id, report.source_time_ns) == (
            alarm,
            3,
            7,
            12_000,
        )
        with pytest.raises(TwinRicError):
            await agent.report_dapp(3, 8, b"\xff\xff", 12_000)
        task.cancel()


async def test_node_restart_drops_the_node_and_brings_it_back():
    restart = {"node_restarts": [{"at_s": 0.2, "down_s": 0.3}]}
    async with house(plain(impairments=restart)) as made:
        connection = made.agents.agents[NODE].connection
        await made.step()
        assert connection.is_connected
        for _ in range(2):
            await made.step()
        assert not connection.is_connected
        for _ in range(3):
            await made.step()
        await connection.connected(5.0)


async def test_engine_runs_smoke_against_the_ric_and_all_tables_arrive():
    async with house(load_scenario("smoke")) as made:
        queue, task = made.subscribe(GRID, grid.encode_trigger(60_000), grid.encode_action())
        await made.admitted(1)
        await Engine(made.network, made.agents, SimClock(0.0), speed=None).run()
        reports = [grid.decode_indication(*await next_of(queue)) for _ in range(5)]
        residential = {"home_report", "home_static", "appliance_report", "storage_report", "feeder_report"} | {
            "outlook",
            "tariffs",
        }
        assert residential | {"microgrid_report", "pcc_report"} == set(reports[-1].tables)
        assert len(reports[0].tables["home_report"]) == 10
        task.cancel()


async def test_agents_slice_control_shows_in_the_next_reports_and_a_false_one_is_told():
    async with house(plain()) as world:
        controls, decisions = world.platform.controls, []
        controls._on_decision = decisions.append
        queue, filling = world.subscribe(KPM, kpm.encode_trigger(100), kpm.encode_action())
        await world.admitted(1)

        async def set_slices(*shares):
            ratios = tuple(
                ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=share)
                for name, share in zip(("1-000001", "1-000002", "1-000003"), shares, strict=True)
            )
            await world.client.control(NODE, CCC, *ccc.encode_control(ratios))

        async def reports(number):
            for _ in range(number):
                await world.step()
                await next_of(queue)

        await reports(2)
        await set_slices(30, 50, 20)
        await reports(6)
        assert (controls.verification.agreed, decisions) == (3, [])
        await set_slices(25, 50, 25)
        world.network.nodes[NODE].allocate({"1-000001": 4, "1-000003": 6})  # behind the back of its acknowledgement
        await reports(8)
        (told,) = decisions
        assert (told.reason.code, told.keys) == ("EFFECT_NOT_SEEN", ("slice 1-000001", "slice 1-000003"))
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


# Set-points and what the node reports of them


GRID_NODE = {
    "gnb_id": 0xE2000001, "microgrids": {}, "residential": {"code": "1-LV-rural3--2-sw", "homes": 10},
}  # fmt: skip


def wanted(kind, ids, **columns):
    return Table(kind, ids, {name: np.full(len(ids), float(value)) for name, value in columns.items()}, 0)


def home_asked(node):
    own = node.parts.residential.fleet
    rows = [int(np.argmax(own.devices.battery_kwh)), int(np.argmin(own.devices.battery_kwh))]
    columns = {"battery_kw": 0.0, "ev_kw": 0.0, "hvac_kw": 0.0, "pv_limit_kw": 100.0, "wind_limit_kw": 100.0}
    table = wanted("home_set_point", tuple(own.ids[row] for row in rows), **columns)
    table.columns["battery_kw"][0] = own.devices.battery_max_kw[rows[0]] / 2
    return table


def appliances_asked(node):
    appliances = node.parts.residential.fleet.appliances
    appliances._jobs.opens_s[appliances._all, appliances._next] = appliances._now_s  # every job may begin now
    return wanted("appliance_set_point", appliances.ids, run=0)


def storage_asked(node):
    return wanted("storage_set_point", (node.parts.residential.storage.id,), charge_kw=20, discharge_kw=0, reserve_kw=2)


def substitution_asked(node):
    del node
    return wanted("microgrid_substitution", ("MG2",), contribution_factor=0.5, in_local_control=1, in_consensus=1)


def ignore_home(node):
    node.parts.residential.fleet._wanted[:] = 0.0


def ignore_appliances(node):
    node.parts.residential.fleet.appliances._wanted[:] = True


def ignore_storage(node):
    node.parts.residential.storage._wanted["charge_kw"] = 0.0


def ignore_substitution(node):
    node.parts.attackable._network.in_consensus[:] = False


async def verify(made, table):
    """Control by `table` at 60 s and look at reports until 120 s; what the RIC decided about it then."""
    controls, decisions = made.platform.controls, []
    controls._on_decision = decisions.append
    valid_until_ns = to_ns(made.network.scenario.start_s + 600)
    header, message = grid.encode_control(grid.GridControl(table, valid_until_ns, "TEST"))
    await made.client.control(NODE, GRID, header, message, deadline_s=5)
    return controls, decisions


@pytest.mark.parametrize(
    ("asked", "lie", "parameter"),
    [
        (home_asked, None, ""),
        (home_asked, ignore_home, "battery_kw"),
        (appliances_asked, None, ""),
        (appliances_asked, ignore_appliances, "run"),
        (storage_asked, None, ""),
        (storage_asked, ignore_storage, "storage_set_point storage-1 charge_kw"),
        (substitution_asked, None, ""),
        (substitution_asked, ignore_substitution, "microgrid_substitution MG2 in_consensus"),
    ],
)
async def test_agents_set_point_shows_in_the_next_report_and_a_false_one_is_told(asked, lie, parameter):
    windows = [{"start_s": 60, "duration_s": 0.5}]
    async with house(plain(nodes=[GRID_NODE], duration_s=180, grid_step_s=60, windows=windows)) as made:
        node = made.network.nodes[NODE]
        queue, filling = made.subscribe(GRID, grid.encode_trigger(100), grid.encode_action())
        await made.admitted(1)
        while await made.step() < made.network.scenario.start_s + 60:
            pass
        table = asked(node)
        controls, decisions = await verify(made, table)
        if lie is not None:
            lie(node)
        while await made.step() < made.network.scenario.start_s + 120:
            pass
        while grid.decode_indication(*await next_of(queue)).source_time_ns < to_ns(made.network.now_s):
            pass
        async with asyncio.timeout(5):
            while not decisions and controls.verification.agreed == 0:
                await asyncio.sleep(0.005)
        if lie is None:
            assert decisions == []
            assert controls.verification.agreed >= 1
        else:
            (told,) = decisions
            assert told.reason.code == "EFFECT_NOT_SEEN"
            assert told.reason.details["parameter"].endswith(parameter)
            assert set(told.keys) <= {f"{table.kind} {name} {column}" for name in table.ids for column in table.columns}
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


async def test_agents_battery_that_is_full_keeps_its_set_point_and_is_not_told():
    async with house(plain(nodes=[GRID_NODE], duration_s=180, grid_step_s=60, windows=[])) as made:
        node = made.network.nodes[NODE]
        queue, filling = made.subscribe(GRID, grid.encode_trigger(60_000), grid.encode_action())
        await made.admitted(1)
        await made.step()
        fleet = node.parts.residential.fleet
        fleet._physics.battery_soc[:] = np.where(fleet.devices.battery_kwh > 0, 0.9999, 0.0)
        table = home_asked(node)
        controls, decisions = await verify(made, table)
        await made.step()
        for _ in range(2):
            report = grid.decode_indication(*await next_of(queue))
        power = report.tables["home_report"]["battery_kw"][fleet.ids.index(table.ids[0])]
        assert power < 0.5 * table["battery_kw"][0]
        async with asyncio.timeout(5):
            while controls.verification.watches(NODE, grid.OID):
                await asyncio.sleep(0.005)
        assert (controls.verification.agreed, decisions) == (10, [])
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
