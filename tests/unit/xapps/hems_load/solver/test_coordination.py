"""Caps on what all homes import together."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.city import City
from benchmarks.hems_fleet_cap import curtailed_shares, jain
from benchmarks.home_programme import joint_cost
from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import Effort, coordinate_fleet, solve_fleet
from xapps.hems_load.solver.coordination import LocalShard, coordinate_shards

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
    plan, _ = coordinate_fleet(problem, np.full(problem.steps, 1.0), may_go_on=lambda _: False, effort=EFFORT)
    assert plan.rounds == 0
    assert np.isfinite(plan.net_kw).all()


def test_coordinate_fleet_keeps_runs_where_the_free_plan_put_them():
    problem = make_fleet(5)
    free, _ = solve_fleet(problem, effort=EFFORT)
    plan, _ = coordinate_fleet(problem, np.full(problem.steps, 0.7 * free.fleet_net_kw.max()), effort=EFFORT)
    assert np.array_equal(plan.shiftable_start, free.shiftable_start)


EVENT = slice(4, 12)


@pytest.fixture(scope="module")
def city():
    """A hundred homes, their free plans, and a cap that asks for a fifth of their import in an event of two hours."""
    problem = City(100, 41).problem(0)
    free, _ = solve_fleet(problem, effort=EFFORT)
    cap = np.full(problem.steps, np.inf)
    cap[EVENT] = 0.8 * free.fleet_net_kw[EVENT]
    return problem, free, cap


def even_in_event(problem, free, plan):
    dear = np.zeros(problem.steps)
    dear[EVENT] = 1.0
    pushed, _ = solve_fleet(replace(problem, fleet_price=dear), effort=EFFORT)
    return jain(curtailed_shares((free, pushed, plan), EVENT, problem.hours, exports=False))


def test_coordinate_fleet_gives_evenly_where_evenness_is_worth_something(city):
    problem, free, cap = city
    plans = [coordinate_fleet(problem, cap, evenness_eur=worth, effort=EFFORT)[0] for worth in (0.0, 2.0)]
    cheapest, even = (even_in_event(problem, free, plan) for plan in plans)
    assert even > 0.85 > 0.75 > cheapest
    for plan in plans:
        assert np.all(plan.fleet_net_kw <= cap * 1.002)
    assert plans[1].costs.total.sum() - plans[0].costs.total.sum() < 0.02 * problem.homes


def test_coordinate_fleet_begins_where_the_last_cycle_ended(city):
    """The same instant again: the cap holds, at no more cost, from starts that are nearer than the first ones."""
    problem, _, cap = city
    usual = Effort(threads=1)
    first, warm = coordinate_fleet(problem, cap, effort=usual)
    again, later = coordinate_fleet(problem, cap, warm, effort=usual)
    assert np.all(again.fleet_net_kw <= cap * 1.002)
    assert again.costs.total.sum() <= first.costs.total.sum() + 0.002 * problem.homes
    steps = [start.push.newton_steps.mean() for start in (warm, later)]
    assert steps[1] < 0.95 * steps[0]


def test_coordinate_fleet_in_two_rounds_is_no_dearer_than_the_exact_plan_by_more_than_a_percent(city):
    """The even answer at the last price keeps the cap nearly alone: dearer mixes would show here."""
    problem, free, cap = city
    warm = None
    for _ in range(3):
        plan, warm = coordinate_fleet(problem, cap, warm, rounds=2, effort=EFFORT)
    exact = joint_cost(problem, problem.meter.load_kw + plan.shiftable_kw, cap)
    assert plan.costs.total.sum() - exact < 0.01 * max(abs(exact), problem.homes)
    assert even_in_event(problem, free, plan) > 0.85


def test_coordinate_fleet_forgets_a_price_where_the_cap_no_longer_binds(city):
    problem, free, cap = city
    _, warm = coordinate_fleet(problem, cap, effort=EFFORT)
    assert warm.fleet_price.max() > 0
    plan, _ = coordinate_fleet(
        problem, np.where(np.isfinite(cap), 1.1 * free.fleet_net_kw, np.inf), warm, effort=EFFORT
    )
    assert not plan.fleet_price.any()
    assert np.allclose(plan.costs.total.sum(), free.costs.total.sum(), atol=2 * EFFORT.gap_eur * problem.homes)


def test_coordinate_shards_agree_on_what_one_process_finds(city):
    problem, _, cap = city
    whole, _ = coordinate_fleet(problem, cap, effort=EFFORT)
    shards = [LocalShard(problem.take(rows), effort=EFFORT) for rows in np.array_split(np.arange(100), 3)]
    outcome = coordinate_shards(shards, cap, problem.hours)
    net = sum(shard.plan.fleet_net_kw for shard in shards)
    assert np.all(net <= cap * 1.002)
    assert not outcome.miss_kw.any()
    cost = sum(shard.plan.costs.total.sum() for shard in shards)
    assert cost == pytest.approx(whole.costs.total.sum(), abs=0.005 * problem.homes)
    assert np.allclose(outcome.price, whole.fleet_price, atol=0.05)
    assert all(np.array_equal(shard.plan.fleet_price, outcome.price) for shard in shards)
