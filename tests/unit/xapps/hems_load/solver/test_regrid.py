"""A start for other steps: the same grid gives the same start, a finer one needs fewer iterations than none."""

from dataclasses import replace

import numpy as np
import pytest

from xapps.hems_load.horizon import Steps
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import pose_fleet
from xapps.hems_load.solver import Effort, solve_fleet
from xapps.hems_load.solver.held import Held
from xapps.hems_load.solver.regrid import regrid

EFFORT = Effort(threads=1)
MINUTE_NS = 60 * 10**9


@pytest.fixture
def state_at(make_state):
    def at(minute):
        grid = Steps()
        hours = 12 + minute / 60 + grid.edges_h(minute * MINUTE_NS)[:-1]
        buy = np.where(hours % 24 < 17, 0.2, 0.4)
        return make_state(8, grid=grid, buy=buy, ev_soc=np.linspace(0.4, 0.7, 8), time_ns=NOON_NS + minute * MINUTE_NS)

    return at


NOON_NS = 1_460_462_400 * 10**9


def test_regrid_onto_the_same_steps_changes_nothing(state_at):
    state = state_at(0)
    _, warm = solve_fleet(pose_fleet(state, HemsPolicy()), effort=EFFORT)
    held = Held(warm.price - 1.0, warm.price + 1.0)
    same = regrid(replace(warm, push=warm, held=held), state.edges_h, state.edges_h)
    np.testing.assert_array_equal(same.price, warm.price)
    for kinds, (rows, iterates) in warm.groups.items():
        np.testing.assert_array_equal(same.groups[kinds][0], rows)
        assert same.push is not None
        for one in (same, same.push):
            np.testing.assert_allclose(one.groups[kinds][1], iterates, rtol=1e-6)
    assert same.held is not None
    np.testing.assert_array_equal(same.held.price, held.price)


def test_regrid_a_quarter_later_starts_nearer_than_none_and_leads_to_the_same_cost(state_at):
    before, now = state_at(1), state_at(16)
    _, warm = solve_fleet(pose_fleet(before, HemsPolicy()), effort=EFFORT)
    problem = pose_fleet(now, HemsPolicy())
    plan, kept = solve_fleet(problem, regrid(warm, before.edges_h, now.edges_h + 0.25), effort=EFFORT)
    cold, started = solve_fleet(problem, effort=EFFORT)
    np.testing.assert_allclose(plan.costs.total, cold.costs.total, atol=2 * EFFORT.gap_eur)
    assert kept.newton_steps.mean() < started.newton_steps.mean()
