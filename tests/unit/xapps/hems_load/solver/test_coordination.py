"""Caps on what all homes import together."""

import numpy as np

from benchmarks.home_programme import joint_cost
from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import Effort, coordinate_fleet, solve_fleet

EFFORT = Effort(gap_eur=2e-3, kept_gap_eur=0.1, threads=1)


def test_coordinate_fleet_without_binding_cap_gives_the_free_plans():
    problem = make_fleet(1)
    free, _ = solve_fleet(problem, effort=EFFORT)
    plan, warm = coordinate_fleet(problem, np.full(problem.steps, 1e3), effort=EFFORT)
    assert np.allclose(plan.net_kw, free.net_kw)
    assert not warm.fleet_price.any()


def test_coordinate_fleet_against_one_programme_for_all_homes():
    problem = make_fleet(2, homes=12)
    free, _ = solve_fleet(problem, effort=EFFORT)
    cap = np.full(problem.steps, 0.8 * free.fleet_net_kw.max())
    plan, _ = coordinate_fleet(problem, cap, rounds=8, effort=EFFORT)
    exact = joint_cost(problem, problem.meter.load_kw + plan.shiftable_kw, cap)
    assert np.all(plan.fleet_net_kw <= cap * 1.002)
    assert -1e-2 <= plan.costs.total.sum() - exact <= 0.02 * max(abs(exact), problem.homes)


def test_coordinate_fleet_impossible_cap_is_missed_by_what_is_told():
    problem = make_fleet(3)
    cap = np.full(problem.steps, -50.0)
    plan, warm = coordinate_fleet(problem, cap, effort=EFFORT)
    assert np.allclose(plan.miss_kw, plan.fleet_net_kw + 50.0)
    assert warm.fleet_price.max() > 0.5


def test_coordinate_fleet_stops_when_time_is_up_and_still_has_a_plan():
    problem = make_fleet(4)
    plan, _ = coordinate_fleet(problem, np.full(problem.steps, 1.0), may_go_on=lambda: False, effort=EFFORT)
    assert plan.rounds == 0
    assert np.isfinite(plan.net_kw).all()


def test_coordinate_fleet_keeps_runs_where_the_free_plan_put_them():
    problem = make_fleet(5)
    free, _ = solve_fleet(problem, effort=EFFORT)
    plan, _ = coordinate_fleet(problem, np.full(problem.steps, 0.7 * free.fleet_net_kw.max()), effort=EFFORT)
    assert np.array_equal(plan.shiftable_start, free.shiftable_start)
