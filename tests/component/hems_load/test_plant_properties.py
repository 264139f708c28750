"""What holds on the simulated plant whatever the plan says: random plans go through the app's projection only."""

import datetime as dt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.grid.residential import make_residential
from e2sim.grid.settings import ResidentialSettings
from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.decision import Decision
from xapps.hems_load.horizon import Steps
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.projection import project
from xapps.hems_load.state import NodeMemory
from xapps.hems_load.tracking import PlanNow, SetPoints, track

START_S = dt.datetime(2016, 4, 12, 15, tzinfo=dt.UTC).timestamp()
HOMES, CYCLE_S, HOURS = 12, 120, 19
USED = ("inflexible_kw", "appliance_kw", "hvac_kw", "ev_kw", "battery_kw")


def wild(rng, state):
    """Set-points without sense: too much, too little, sometimes not even numbers."""
    values = rng.uniform(-20, 20, (5, HOMES))
    values[rng.random(values.shape) < 0.02] = np.nan
    return SetPoints(*values, rng.random(len(state.jobs)) < 0.5)


@given(st.integers(0, 2**31))
@settings(max_examples=2, deadline=None)
def test_plant_under_wild_plans_keeps_balance_bounds_and_ev_targets(seed):
    rng, policy = np.random.default_rng(seed), HemsPolicy()
    parts = make_residential(ResidentialSettings(homes=HOMES), node_id="n", start_s=START_S, days=2, seed=seed % 97)
    memory, homes = NodeMemory(), parts.fleet
    for cycle in range(HOURS * 3600 // CYCLE_S):
        end_s = START_S + CYCLE_S * (cycle + 1)
        tables = {table.kind: table for part in parts.parts for table in part.step(end_s, CYCLE_S)}
        report = tables["home_report"]
        net = sum(report[name] for name in USED) - report["pv_kw"] - report["wind_kw"]
        np.testing.assert_allclose(report["import_kw"] - report["export_kw"], net, atol=1e-9)
        for name in ("battery_soc", "ev_soc"):
            assert report[name].min() >= 0
            assert report[name].max() <= 1
        memory.add(tables)
        state = memory.state("n", Steps())
        decision = Decision.of(state, project(state, wild(rng, state), policy).points, reason=Reason("WILD"))
        for wanted in (decision.homes, decision.appliances):
            if wanted is not None:
                homes.apply(wanted, end_s + 2 * CYCLE_S)
    totals = homes.totals()
    assert totals["appliance_late_h"].max() == 0
    # A car that comes right after a decision waits a cycle for its first set-point: at most 0.4 kWh.
    assert totals["ev_shortfall_kwh"].max() < 0.5


@given(st.integers(0, 2**31))
@settings(max_examples=4, deadline=None)
def test_plant_minute_by_minute_never_imports_and_exports_at_once(seed):
    rng = np.random.default_rng(seed)
    parts = make_residential(ResidentialSettings(homes=HOMES), node_id="n", start_s=START_S, days=1, seed=seed % 97)
    for minute in range(30):
        report = parts.fleet.step(START_S + 60 * (minute + 1), 60)[0]
        assert np.minimum(report["import_kw"], report["export_kw"]).max() == 0
        own = parts.fleet.devices
        columns = {
            "battery_kw": rng.uniform(-1, 1, HOMES) * own.battery_max_kw, "ev_kw": rng.random(HOMES) * own.ev_max_kw,
            "hvac_kw": rng.random(HOMES) * own.hvac_max_kw, "pv_limit_kw": rng.uniform(0, 5, HOMES),
            "wind_limit_kw": rng.uniform(0, 5, HOMES),
        }  # fmt: skip
        parts.fleet.apply(Table("home_set_point", parts.fleet.ids, columns, 0), START_S + 60 * (minute + 3))


def test_tracking_each_second_keeps_homes_that_plan_no_exchange_at_zero():
    """Sub-minute control: reports each second, set-points each second, no plan in between."""
    parts = make_residential(ResidentialSettings(homes=HOMES), node_id="n", start_s=START_S, days=1, seed=3)
    memory, policy, exchanged = NodeMemory(), HemsPolicy(), []
    for second in range(60):
        end_s = START_S + second + 1
        tables = {table.kind: table for part in parts.parts for table in part.step(end_s, 1)}
        memory.add(tables)
        state = memory.state("n", Steps())
        zero = np.zeros(HOMES)
        here = [state.report[name] for name in ("pv_available_kw", "pv_available_kw")]
        wind = [state.report[name] for name in ("wind_available_kw", "wind_available_kw")]
        plan = PlanNow(zero, zero, zero, zero, *here, *wind, run=np.zeros(len(state.jobs), dtype=bool))
        points = project(state, track(state, plan, policy), policy).points
        parts.fleet.apply(Decision.of(state, points, reason=Reason("TRACK")).homes, end_s + 5)
        exchanged.append(np.abs(tables["home_report"]["import_kw"] - tables["home_report"]["export_kw"]))
    has = (state.homes.battery_kwh > 0) & (state.report["battery_soc"] > 0.05) & (state.report["battery_soc"] < 0.95)
    free = has & (np.abs(state.report["battery_kw"]) < state.homes.battery_max_kw - 0.01)
    assert free.any()
    assert np.median(np.array(exchanged)[10:, free]) < 1e-6
