"""The pure app and the simulator in closed loop, without any network: half a day, the baseline beside it."""

import datetime as dt

import numpy as np
import pytest

from e2sim.grid.residential import make_residential
from e2sim.grid.settings import ResidentialSettings
from xapps.hems_load.horizon import Steps
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import NodeMemory

NODE, HOMES, HOURS = "00101-e2000001", 12, 10
START_S = dt.datetime(2016, 4, 12, 12, tzinfo=dt.UTC).timestamp()
WINTER_S = dt.datetime(2016, 1, 20, 12, tzinfo=dt.UTC).timestamp()


def run(policy, start_s=START_S):
    """Totals, minute powers of all homes together, decisions; `policy` None runs without the app. Steps of 5 min."""
    parts = make_residential(ResidentialSettings(homes=HOMES), node_id=NODE, start_s=start_s, days=1, seed=11)
    memory, optimizer, powers, decisions = NodeMemory(), Optimizer(Limits()), [], []
    for step in range(HOURS * 12):
        end_s = start_s + 300 * (step + 1)
        tables = {table.kind: table for part in parts.parts for table in part.step(end_s, 300)}
        powers.append(parts.fleet.meter_kw.sum())
        if policy is not None:
            memory.add(tables)
            decision = optimizer.decide(memory.state(NODE, Steps()), policy)
            optimizer.adopt(decision)
            in_force = parts.fleet.apply(decision.homes, end_s + 600)
            for name, values in decision.homes.columns.items():
                np.testing.assert_allclose(in_force[name], values, atol=1e-6)
            if decision.appliances is not None:
                parts.fleet.apply(decision.appliances, end_s + 600)
            decisions.append(decision)
    return {name: float(values.sum()) for name, values in parts.fleet.totals().items()}, np.array(powers), decisions


def worth(totals):
    """Cost less what is stored at the end, at prices that favour the baseline, which ends with fuller stores."""
    stored = 0.25 * totals["battery_stored_kwh"] + 0.3 * totals["ev_stored_kwh"] + 0.09 * totals["heat_stored_kwh"]
    return totals["cost_eur"] - stored


@pytest.fixture(scope="module")
def local():
    return run(None)


@pytest.fixture(scope="module")
def planned():
    return run(HemsPolicy())


def test_closed_loop_costs_less_than_local_control(local, planned):
    assert worth(planned[0]) < worth(local[0]) - 1.0
    assert planned[0]["comfort_degree_h"] < 2.0
    assert planned[0]["ev_shortfall_kwh"] < 0.1


def test_closed_loop_cap_is_kept_where_the_free_plan_would_pass_it():
    window = slice(5 * 12, 9 * 12)
    _, powers, _ = run(HemsPolicy(), WINTER_S)
    free_kw = powers[window].reshape(-1, 3).mean(axis=1).max()
    cap_kw = 0.8 * free_kw
    policy = HemsPolicy(
        import_cap_kw=cap_kw, import_cap_start_s=WINTER_S + 5 * 3600, import_cap_end_s=WINTER_S + 9 * 3600
    )
    totals, powers, _ = run(policy, WINTER_S)
    assert powers[window].reshape(-1, 3).mean(axis=1).max() <= 1.1 * cap_kw
    assert totals["ev_shortfall_kwh"] < 0.1


def test_closed_loop_without_export_stores_or_curtails(local):
    """Set-points follow the last five minutes, so part of what went out still leaks when a load stops."""
    totals, _, _ = run(HemsPolicy(export_allowed=False))
    assert totals["pv_curtailed_kwh"] > 10
    assert totals["export_kwh"] < 0.2 * local[0]["export_kwh"]
