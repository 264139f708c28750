"""Desired state on the bus as the RIC's conflict mitigation sees it: held like a control, and told, never held back."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np

from ric.bus.bus import TWIN_DESIRED, MemoryBus, Twins
from ric.bus.record import AckStatus
from ric.clock import SimClock, to_ns
from ric.columns import Table
from ric.desired_controls import DesiredControls
from ric.e2.conflict_mitigation import ControlIntent
from ric.e2.exchange import E2Exchange
from ric.e2.set_points import amounts_of
from ric.e2sm import grid
from ric.telemetry import Metrics

NODE, START_S = "00101-e2000001", 1_460_462_400.0
STORAGE = Table(
    "storage_set_point", ("storage-1",),
    {"charge_kw": np.array([30.0]), "discharge_kw": np.zeros(1), "reserve_kw": np.zeros(1)}, to_ns(START_S),
)  # fmt: skip


def homes(battery_kw):
    names = ("ev_kw", "hvac_kw", "pv_limit_kw", "wind_limit_kw")
    columns = {"battery_kw": np.full(4, battery_kw)} | {name: np.zeros(4) for name in names}
    return Table("home_set_point", tuple(f"home-{n}" for n in range(4)), columns, to_ns(START_S))


@asynccontextmanager
async def ric():
    """What the RIC makes of desired state, an app and the homes' side on one bus, and the conflicts that are told."""
    bus, told = MemoryBus(), []
    await bus.start()
    e2 = E2Exchange(Metrics("ric"), SimClock(START_S), hold_s=30.0, on_decision=told.append)
    desired = DesiredControls(bus, Metrics("ric"), e2.controls)
    await desired.start()
    hems, gateway = (Twins(bus, SimClock(START_S), Metrics(name), f"{name}/1") for name in ("hems_load", "homes"))
    yield e2.conflicts, hems, gateway, told
    await desired.stop()
    await bus.stop()


async def tell(hems, table, node=NODE):
    state = await hems.publish(TWIN_DESIRED, f"{table.kind}/{node}", table.kind, table, 300_000)
    await settle()
    return state


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def control_of(conflicts, table, app="other", node=NODE):
    amounts = amounts_of(table)
    return conflicts.decide(ControlIntent(app, node, grid.OID, amounts, amounts), START_S)


async def test_control_against_what_homes_were_told_over_the_bus_is_refused():
    async with ric() as (conflicts, hems, gateway, told):
        state = await tell(hems, homes(-5.0))
        await gateway.acknowledge(state, AckStatus.ACCEPTED)
        await settle()
        direct, implicit = control_of(conflicts, homes(5.0)), control_of(conflicts, STORAGE)
        assert (direct.is_admitted, direct.winner, direct.reason.code) == (False, "hems_load", "HELD_BY_EQUAL_PRIORITY")
        assert (implicit.is_admitted, implicit.winner, implicit.reason.code) == (False, "hems_load", "OPPOSES_CONTROL")
        assert control_of(conflicts, STORAGE, node="00101-e2000002").reason.code == "NO_CONFLICT"
        assert not told


async def test_desired_state_against_a_control_is_told_and_stands():
    async with ric() as (conflicts, hems, _, told):
        control_of(conflicts, STORAGE)
        await tell(hems, homes(-5.0))
        (found,) = told
        assert (found.is_admitted, found.intent.app_id, found.losers) == (True, "hems_load", ("other",))
        assert found.reason.code == "OPPOSES_CONTROL"
        assert found.reason.details["target"] == "feeder import_kw"


async def test_desired_state_that_was_rejected_holds_nothing_whichever_is_seen_first():
    async with ric() as (conflicts, hems, gateway, _):
        first = await tell(hems, homes(-5.0))
        await gateway.acknowledge(first, AckStatus.REJECTED, "beyond battery_kw")
        await settle()
        assert control_of(conflicts, STORAGE, node=NODE).reason.code == "NO_CONFLICT"
    async with ric() as (conflicts, hems, gateway, _):
        early = (await Twins(MemoryBus(), SimClock(START_S), Metrics("x"), "x/1").publish(
            TWIN_DESIRED, f"home_set_point/{NODE}", "home_set_point", homes(-5.0), 300_000
        ))  # fmt: skip
        await gateway.acknowledge(early, AckStatus.REJECTED, "beyond battery_kw")
        await settle()
        await tell(hems, homes(-5.0))
        assert control_of(conflicts, STORAGE).reason.code == "NO_CONFLICT"


async def test_desired_state_that_tells_no_device_holds_nothing():
    async with ric() as (conflicts, hems, _, told):
        columns = {"step_s": np.array([900.0]), "charge_kw": np.array([[0.0]]), "soc": np.array([[0.5]]),
                   "discharge_kw": np.array([[30.0]]), "reserve_kw": np.array([[0.0]])}  # fmt: skip
        await tell(hems, Table("storage_schedule", ("storage-1",), columns, to_ns(START_S)))
        assert control_of(conflicts, STORAGE).reason.code == "NO_CONFLICT"
        assert conflicts.holds == 3
        assert not told
