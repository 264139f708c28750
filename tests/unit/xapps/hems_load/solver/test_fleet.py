"""The fleet's plans against HiGHS, and what must hold of every plan."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.home_programme import HomeProgramme
from ric.errors import TwinRicError
from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.fleet_problem import FleetPlan, relaxation_of
from xapps.hems_load.solver import Effort, project_plan, solve_fleet
from xapps.hems_load.solver.blocks import solve_homes

EXACT = Effort(gap_eur=1e-3, gap_share=0.0, kept_gap_eur=0.1, threads=1)
KW = 1e-6


def exact_costs(problem, plan):
    load = problem.meter.load_kw + plan.shiftable_kw
    costs = []
    for home in range(problem.homes):
        programme = HomeProgramme(problem, home)
        programme.pose(problem, load[home])
        costs.append(programme.solve(warm=False))
    return np.array(costs)


def assert_within_limits(problem, plan: FleetPlan):
    battery, ev, pump, meter = problem.battery, problem.ev, problem.heat_pump, problem.meter
    used = plan.battery_kw + plan.ev_kw + plan.hvac_kw + plan.appliance_kw.sum(axis=1) + plan.shiftable_kw
    assert np.allclose(meter.load_kw + used - plan.pv_kw - plan.wind_kw, plan.net_kw, atol=KW)
    assert np.all(plan.battery_kw <= battery.charge_kw[:, None] + KW)
    assert np.all(-plan.battery_kw <= battery.discharge_kw[:, None] + KW)
    has = battery.capacity_kwh > 0
    low = np.minimum(battery.floor_kwh, battery.energy_kwh)[:, None]
    assert np.all(plan.battery_kwh[has] >= low[has] - KW)
    assert np.all(plan.battery_kwh[has] <= battery.capacity_kwh[has][:, None] + KW)
    assert np.all(plan.ev_kw <= ev.charge_kw[:, None] * ev.here + KW)
    assert np.all(-plan.ev_kw <= ev.discharge_kw[:, None] * ev.here + KW)
    assert np.all((plan.hvac_kw >= -KW) & (plan.hvac_kw <= pump.power_kw[:, None] + KW))
    assert np.all(-plan.net_kw <= meter.export_limit_kw + KW)
    assert np.all((plan.pv_kw >= -KW) & (plan.pv_kw <= meter.pv_kw + KW))
    served = (plan.appliance_kw * problem.hours).sum(axis=2)
    assert np.all(served <= problem.appliances.energy_kwh + KW)


@pytest.mark.parametrize("seed", range(4))
def test_solve_fleet_against_highs_is_within_the_gap(seed):
    problem = make_fleet(seed)
    plan, _ = solve_fleet(problem, effort=EXACT)
    excess = plan.costs.total - exact_costs(problem, plan)
    assert np.all(excess > -1e-5)
    assert np.all(excess < 5e-3)


def test_solve_fleet_of_any_arrays_is_one_compilation():
    """Views that repeat a row or a number, a fleet price, arrays in another order or read-only."""
    problem = make_fleet(5)
    solve_fleet(problem, effort=Effort(threads=1))
    compiled = len(solve_homes.signatures)
    shape = (problem.homes, problem.steps)
    buy = np.broadcast_to(problem.meter.buy[0], shape)
    load = np.asfortranarray(problem.meter.load_kw)
    load.setflags(write=False)
    meter = replace(problem.meter, buy=buy, sell=np.broadcast_to(0.05, shape), load_kw=load)
    other = replace(problem, meter=meter, fleet_price=np.full(problem.steps, 0.01), battery=None, shiftable=None)
    plain = replace(other, meter=replace(meter, buy=buy.copy(), sell=np.full(shape, 0.05), load_kw=load.copy()))
    plan, warm = solve_fleet(other, effort=Effort(threads=1))
    same, _ = solve_fleet(plain, effort=Effort(threads=1))
    solve_fleet(other, warm, shift_steps=1, effort=Effort(threads=1))
    assert len(solve_homes.signatures) == compiled
    assert np.allclose(plan.net_kw, same.net_kw, atol=1e-3)


def test_solve_fleet_home_that_gets_a_device_starts_cold_and_the_others_warm():
    problem = make_fleet(6, homes=24)
    _, warm = solve_fleet(problem, effort=EXACT)
    assert problem.battery is not None
    has = problem.battery.capacity_kwh > 0
    home = int(np.flatnonzero(~has)[0])
    gets = np.arange(problem.homes) == home
    battery = replace(
        problem.battery, capacity_kwh=np.where(gets, 5.0, problem.battery.capacity_kwh),
        energy_kwh=np.where(gets, 2.0, problem.battery.energy_kwh),
        charge_kw=np.where(gets, 2.0, problem.battery.charge_kw),
        discharge_kw=np.where(gets, 2.0, problem.battery.discharge_kw),
    )  # fmt: skip
    changed = replace(problem, battery=battery)
    plan, _ = solve_fleet(changed, warm, effort=EXACT)
    cold, _ = solve_fleet(changed, effort=EXACT)
    assert abs(plan.costs.total[home] - cold.costs.total[home]) < 0.02
    assert np.all(plan.costs.total <= exact_costs(changed, plan) + 5e-3)


def test_solve_fleet_homes_whose_last_plan_was_dear_need_be_less_exact():
    problem, usual = make_fleet(6, homes=24), Effort(threads=1)
    _, warm = solve_fleet(problem, effort=usual)
    changed = replace(problem, meter=replace(problem.meter, load_kw=1.1 * problem.meter.load_kw))
    plan, took = solve_fleet(changed, warm, effort=usual)
    _, alike = solve_fleet(changed, warm, effort=usual.alike)
    gap = usual.gap_of(warm.cost_eur)
    assert np.all(plan.costs.total <= exact_costs(changed, plan) + gap)
    assert gap.min() == usual.gap_eur < gap.max() <= usual.most_gap_eur
    same = gap == usual.gap_eur
    assert np.array_equal(took.newton_steps[same], alike.newton_steps[same])
    assert took.newton_steps[~same].sum() < alike.newton_steps[~same].sum()


def test_solve_fleet_names_the_home_whose_problem_is_not_finite():
    problem = make_fleet(5)
    buy = problem.meter.buy.copy()
    buy[3, 7] = np.nan
    with pytest.raises(TwinRicError, match="SOLVE-FAILED home = 3"):
        solve_fleet(replace(problem, meter=replace(problem.meter, buy=buy)))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_solve_fleet_recovers_from_a_start_that_did_not_settle(spoilt):
    problem = make_fleet(5)
    cold, warm = solve_fleet(problem, effort=EXACT)
    for _, iterates in warm.groups.values():
        iterates[0] = spoilt
    _, failed = solve_fleet(problem, replace(warm), effort=replace(EXACT, most_steps=1))
    again, _ = solve_fleet(problem, failed, effort=replace(EXACT, most_steps=1))
    assert np.isfinite(again.net_kw).all()
    plan, _ = solve_fleet(problem, replace(failed, newton_steps=np.full(problem.homes, 81)), effort=EXACT)
    assert plan.costs.total == pytest.approx(cold.costs.total, abs=5e-3)


def test_solve_fleet_against_highs_where_limits_cannot_be_kept():
    problem = make_fleet(11, tight=True)
    plan, _ = solve_fleet(problem, effort=EXACT)
    exact = exact_costs(problem, plan)
    assert np.all(plan.costs.total - exact < 0.01 * exact)
    assert any(relaxation_of(plan, home)[0] for home in range(problem.homes))


def test_solve_fleet_against_highs_with_steps_of_two_lengths():
    hours = np.concatenate([np.full(8, 1 / 60), np.full(24, 0.5)])
    problem = make_fleet(5, steps=32, hours=hours)
    plan, _ = solve_fleet(problem, effort=EXACT)
    assert np.all(np.abs(plan.costs.total - exact_costs(problem, plan)) < 5e-3)


def test_solve_fleet_warm_start_gives_the_cold_optimum_of_a_later_horizon():
    problem = make_fleet(6, homes=20)
    _, warm = solve_fleet(problem, effort=EXACT)
    shifted = replace(problem, meter=replace(problem.meter, load_kw=1.1 * np.roll(problem.meter.load_kw, -1, axis=1)))
    later, _ = solve_fleet(shifted, warm, shift_steps=1, effort=EXACT)
    assert np.all(np.abs(later.costs.total - exact_costs(shifted, later)) < 5e-3)


def one_step_later(problem, plan):
    """The same homes when the first step is over and went as planned; what the new last step brings is as the first."""

    def on(part, **changed):
        moved = {f.name: np.roll(getattr(part, f.name), -1, axis=1) for f in fields(part) if f.name in SERIES}
        return replace(part, **(moved | changed))

    appliances, hours = problem.appliances, problem.hours
    served = plan.appliance_kw[:, :, 0] * hours[0]
    left = np.where(appliances.last > 0, np.maximum(appliances.energy_kwh - served, 0), 0)
    first, last = (np.maximum(step - 1, 0) for step in (appliances.first, appliances.last))
    return replace(
        problem, meter=on(problem.meter), battery=replace(problem.battery, energy_kwh=plan.battery_kwh[:, 0]),
        ev=on(problem.ev, energy_kwh=plan.ev_kwh[:, 0]), heat_pump=on(problem.heat_pump, indoor_c=plan.indoor_c[:, 0]),
        appliances=replace(appliances, energy_kwh=left, first=first, last=last),
    )  # fmt: skip


SERIES = (
    "load_kw", "pv_kw", "wind_kw", "buy", "sell", "export_limit_kw", "here", "trip_kwh", "floor_kwh", "target_kwh",
    "left", "warm_c_per_kw", "drift_c", "low_c", "high_c", "discomfort_eur_per_k_h",
)  # fmt: skip


def test_solve_fleet_warm_start_after_a_step_that_went_as_planned_takes_fewer_steps_than_a_cold_one():
    problem = replace(make_fleet(11, homes=64), shiftable=None)
    plan, warm = solve_fleet(problem, effort=Effort(threads=1))
    later = one_step_later(problem, plan)
    assert plan.appliance_kw[:, :, 0].any()
    _, cold = solve_fleet(later, effort=Effort(threads=1))
    _, again = solve_fleet(later, warm, shift_steps=1, effort=Effort(threads=1))
    assert again.newton_steps.mean() < 0.55 * cold.newton_steps.mean()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), tight=st.booleans())
def test_solve_fleet_plans_keep_every_device_within_its_limits(seed, tight):
    problem = make_fleet(seed, homes=3, tight=tight)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    assert_within_limits(problem, plan)


def test_solve_fleet_meets_ev_targets_whenever_they_can_be_met():
    problem = make_fleet(7, homes=24)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    assert np.all(plan.relaxed["EV_TARGET_RELAXED"] < 1e-6)
    due = problem.ev.target_kwh > 0
    assert np.all(plan.ev_kwh[due] >= problem.ev.target_kwh[due] - 1e-6)


def test_solve_fleet_unreachable_ev_target_is_missed_by_what_is_told():
    problem = make_fleet(8, homes=10, tight=True)
    plan, _ = solve_fleet(problem, effort=EXACT)
    due = (problem.ev.target_kwh * (problem.ev.capacity_kwh > 0)[:, None]).max(axis=1)
    missed = np.maximum(problem.ev.target_kwh - plan.ev_kwh, 0).max(axis=1)
    assert missed.max() > 1
    assert np.all(plan.relaxed["EV_TARGET_RELAXED"][due > 0] >= missed[due > 0] - 1e-6)


def test_solve_fleet_dearer_imports_are_never_more():
    problem = make_fleet(9, homes=12)
    fixed = replace(problem, shiftable=None)
    imports = []
    for price in (0.0, 0.1, 0.4):
        rise = np.zeros(problem.steps)
        rise[4:8] = price
        plan, _ = solve_fleet(replace(fixed, fleet_price=rise), effort=EXACT)
        imports.append(plan.net_kw[:, 4:8].sum(axis=1))
    assert np.all(imports[0] >= imports[1] - 0.02)
    assert np.all(imports[1] >= imports[2] - 0.02)


def test_solve_fleet_homes_do_not_depend_on_their_neighbours():
    problem = make_fleet(10, homes=12)
    whole, _ = solve_fleet(problem, effort=EXACT)
    rows = np.array([3, 7])
    alone, _ = solve_fleet(problem.take(rows), effort=EXACT)
    assert np.allclose(alone.costs.total, whole.costs.total[rows], atol=2e-3)


def test_project_plan_brings_any_wish_within_the_limits_and_is_idempotent():
    problem = make_fleet(12)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    rng = np.random.default_rng(0)
    wild = replace(
        plan,
        battery_kw=rng.normal(0, 20, plan.battery_kw.shape), ev_kw=rng.normal(0, 20, plan.ev_kw.shape),
        hvac_kw=rng.normal(0, 20, plan.hvac_kw.shape), appliance_kw=rng.normal(0, 5, plan.appliance_kw.shape),
    )  # fmt: skip
    once = project_plan(problem, wild, threads=1)
    assert_within_limits(problem, once)
    again = project_plan(problem, once, threads=1)
    assert np.allclose(again.battery_kw, once.battery_kw, atol=KW)
    assert np.allclose(again.net_kw, once.net_kw, atol=KW)


def test_project_plan_of_a_solved_plan_changes_nothing():
    problem = make_fleet(13)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    same = project_plan(problem, plan, threads=1)
    assert np.allclose(same.costs.total, plan.costs.total, atol=1e-6)


def test_solve_fleet_without_runs_is_undisturbed_by_what_was_solved_before():
    """Groups of homes follow each other in a thread's memory; what one leaves there is no load of the next."""
    hours = np.concatenate([np.full(8, 1 / 60), np.full(24, 0.5)])
    problem = replace(make_fleet(11, homes=60, steps=32, hours=hours), shiftable=None)
    together, _ = solve_fleet(problem, effort=EXACT)
    for home in (0, 31, 59):
        alone, _ = solve_fleet(problem.take(np.array([home])), effort=EXACT)
        assert together.costs.total[home] == pytest.approx(alone.costs.total[0], abs=5 * EXACT.gap_eur)
        np.testing.assert_allclose(together.net_kw[home].sum(), alone.net_kw[0].sum(), atol=0.5)
