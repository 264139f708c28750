"""The app's model of devices against the simulator's physics, which were written apart from it.

Stated tolerances on random homes: battery and EV (below the taper) 1e-6 in state of charge after 15 min inside the
limits; coefficient of performance within 8 % from -7 to 12 degC outdoors and 16 % up to 15 degC; indoor temperature
after 4 h within 0.02 K with equal heat, and within 0.5 K (median 0.12 K) with the gains that were learnt.
"""

import datetime as dt

import numpy as np
import pytest

from e2sim.grid.physics import HomePhysics, heat_pump_cop
from e2sim.grid.residential import make_residential
from e2sim.grid.settings import ResidentialSettings
from e2sim.grid.traces import Sessions
from xapps.hems_load.model import Homes, cop_at, indoor_after, soc_after
from xapps.hems_load.state import NodeMemory

START_S = dt.datetime(2016, 3, 16, tzinfo=dt.UTC).timestamp()


@pytest.fixture(scope="module")
def parts():
    return make_residential(ResidentialSettings(homes=40), node_id="n", start_s=START_S, days=2, seed=9)


@pytest.fixture(scope="module")
def homes(parts):
    return Homes.of(parts.fleet.static_table())


@pytest.fixture
def physics(parts):
    owners = np.flatnonzero(parts.fleet.devices.ev_kwh > 0)
    empty = np.zeros(owners.size)
    stays = Sessions(owners, empty + START_S, empty + START_S + 1e6, empty, empty + 0.8)
    return HomePhysics(parts.fleet.devices, stays, START_S, 1)


@pytest.mark.parametrize("seed", range(5))
def test_model_storage_against_simulator(homes, physics, seed):
    rng = np.random.default_rng(seed)
    soc = rng.uniform(0.55, 0.7, len(homes))  # above every owner's V2G floor, below the taper
    for drive, capacity, limit, efficiency, state in (
        (physics.drive_battery, homes.battery_kwh, homes.battery_max_kw, homes.battery_efficiency, "battery_soc"),
        (physics.drive_ev, homes.ev_kwh, homes.ev_v2g_kw, homes.ev_efficiency, "ev_soc"),
    ):
        power = rng.uniform(-1, 1, len(homes)) * limit
        setattr(physics, state, np.where(capacity > 0, soc, 0.0))
        flowed = drive(power, 900)
        inside = capacity > 0
        np.testing.assert_allclose(flowed[inside], power[inside])
        expected = soc_after(soc, power, efficiency, capacity, 900)
        np.testing.assert_allclose(getattr(physics, state)[inside], expected[inside], atol=1e-6)


def test_model_cop_against_simulator(homes):
    for outdoor in np.linspace(-7, 15, 12):
        ours = cop_at(homes, np.array([outdoor]))[:, 0]
        np.testing.assert_allclose(ours, heat_pump_cop(homes.hvac_cop, outdoor), rtol=0.16)
    near = [abs(cop_at(homes, np.array([t]))[0, 0] / heat_pump_cop(homes.hvac_cop, t)[0] - 1) for t in range(-7, 13)]
    assert max(near) < 0.08


@pytest.mark.parametrize("seed", range(5))
def test_model_room_against_simulator(homes, physics, seed):
    rng = np.random.default_rng(seed)
    outdoor, start = float(rng.uniform(-8, 15)), rng.uniform(18, 24, len(homes))
    hvac = rng.uniform(0, 1, len(homes)) * homes.hvac_max_kw
    physics.indoor_c = start.copy()
    for _ in range(240):
        physics.warm(hvac, outdoor, np.full(len(homes), 0.4), 60)
    heat = heat_pump_cop(homes.hvac_cop, outdoor) * hvac + 0.4
    expected = indoor_after(homes, start, heat, np.full(len(homes), outdoor), 4 * 3600)
    heated = homes.hvac_max_kw > 0
    np.testing.assert_allclose(physics.indoor_c[heated], expected[heated], atol=0.02)


def test_model_with_learnt_gains_predicts_rooms_four_hours_ahead():
    parts = make_residential(ResidentialSettings(homes=40), node_id="n", start_s=START_S, days=2, seed=9)
    memory = NodeMemory()
    reports = []
    for minute in range(10 * 60):
        tables = {t.kind: t for part in parts.parts for t in part.step(START_S + 60 * (minute + 1), 60)}
        memory.add(tables)
        reports.append(tables["home_report"])
        if minute == 6 * 60 - 1:
            gains, start = memory.gains_kw.copy(), reports[-1]["indoor_c"].copy()
    homes = memory.homes
    room = start
    for report in reports[6 * 60 :]:
        outdoor = report["outdoor_c"]
        heat = cop_at(homes, outdoor[:1])[:, 0] * report["hvac_kw"] + gains
        room = indoor_after(homes, room, heat, outdoor, 60)
    heated = homes.hvac_max_kw > 0
    error = np.abs(room - reports[-1]["indoor_c"])[heated]
    assert np.median(error) < 0.12
    assert error.max() < 0.5
