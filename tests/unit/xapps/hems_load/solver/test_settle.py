"""What the settled plan says it costs is what its set-points cost."""

import numpy as np

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import Effort, solve_fleet


def test_settle_costs_are_those_of_the_set_points():
    problem = make_fleet(3, homes=10)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    meter, hours = problem.meter, problem.hours
    over = np.maximum(plan.net_kw - meter.import_limit_kw[:, None], 0)
    energy = ((np.maximum(plan.net_kw, 0) * meter.buy + np.minimum(plan.net_kw, 0) * meter.sell) * hours).sum(axis=1)
    assert np.allclose(plan.costs.energy, energy)
    assert np.allclose(plan.relaxed["CONTRACT_RELAXED"], (over * hours).sum(axis=1))
    wear = (np.abs(plan.battery_kw) * hours).sum(axis=1) * problem.battery.wear_eur_per_kwh
    wear += (np.maximum(-plan.ev_kw, 0) * hours).sum(axis=1) * problem.ev.wear_eur_per_kwh
    assert np.allclose(plan.costs.wear, wear)
    pump, has = problem.heat_pump, problem.heat_pump.power_kw > 0
    outside = np.maximum(pump.low_c - plan.indoor_c, 0) + np.maximum(plan.indoor_c - pump.high_c, 0)
    assert np.allclose(plan.relaxed["COMFORT_RELAXED"][has], (outside * hours).sum(axis=1)[has])


def test_settle_states_follow_from_the_powers():
    problem = make_fleet(4, homes=10)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    battery, pump = problem.battery, problem.heat_pump
    gained = np.where(
        plan.battery_kw > 0,
        plan.battery_kw * battery.charge_efficiency[:, None],
        plan.battery_kw / battery.discharge_efficiency[:, None],
    )
    energy = battery.energy_kwh[:, None] + np.cumsum(gained * problem.hours, axis=1)
    has = battery.capacity_kwh > 0
    assert np.allclose(plan.battery_kwh[has], energy[has])
    before = np.column_stack([pump.indoor_c, plan.indoor_c[:, :-1]])
    after = pump.left * before + pump.warm_c_per_kw * plan.hvac_kw + pump.drift_c
    assert np.allclose(plan.indoor_c[pump.power_kw > 0], after[pump.power_kw > 0])
