"""Occasions on which homes give, and what they give on them."""

from dataclasses import replace

import numpy as np

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import Effort, solve_fleet
from xapps.hems_load.solver.occasions import Gifts, call_of, miss_of, over_of

HOURS = np.full(24, 0.25)


def test_call_of_joins_steps_that_are_near_and_ranks_by_energy():
    cap, net = np.full(24, 10.0), np.zeros(24)
    net[[2, 4]], net[12:15], net[20] = 11.0, 20.0, 10.005
    call = call_of(net, cap, HOURS)
    assert call.occasions == 2
    assert call.occasion[12:15].tolist() == [0, 0, 0]
    assert call.occasion[[2, 4]].tolist() == [1, 1]
    assert (call.occasion >= 0).sum() == 5  # what passes the cap by rounding is no occasion
    assert not miss_of(net, cap)[20]
    assert over_of(net, cap).sum() == 5


def test_call_of_leaves_out_all_but_the_three_largest_occasions():
    cap, net = np.full(48, 10.0), np.zeros(48)
    net[[1, 11, 21, 31]] = 11.0, 12.0, 13.0, 14.0
    occasion = call_of(net, cap, np.full(48, 0.25)).occasion
    assert occasion[[31, 21, 11, 1]].tolist() == [0, 1, 2, -1]


def gifts_of():
    problem = make_fleet(3, homes=20)
    effort = Effort(threads=1)
    free, _ = solve_fleet(problem, effort=effort)
    cap = np.full(problem.steps, np.inf)
    cap[4:10] = 0.5 * free.fleet_net_kw[4:10]
    call = call_of(free.fleet_net_kw, cap, problem.hours)
    buy = problem.meter.buy + np.isfinite(cap)
    dear = replace(problem, meter=replace(problem.meter, buy=buy))
    pushed, _ = solve_fleet(dear, effort=effort)
    return Gifts(problem.hours, call, free, pushed), free, pushed, call


def test_gifts_share_is_nothing_of_the_free_plans_and_all_of_the_push():
    gifts, free, pushed, call = gifts_of()
    assert gifts.able.any()
    assert not gifts.share(free).any()
    np.testing.assert_allclose(gifts.share(pushed)[gifts.able], 1.0)
    less = np.maximum(np.maximum(free.net_kw, 0) - np.maximum(pushed.net_kw, 0), 0).sum(axis=0)
    np.testing.assert_allclose(gifts.most_kw, np.where(call.occasion >= 0, less, 0))


def test_gifts_levelled_makes_shares_more_even_and_keeps_the_sum_of_weights():
    gifts, free, pushed, _ = gifts_of()
    able, homes = gifts.able[:, 0], free.net_kw.shape[0]
    first = np.random.default_rng(1).uniform(0.1, 0.9, homes)
    mixture, share = np.stack([1 - first, first]), [gifts.share(free), gifts.share(pushed)]
    after = gifts.levelled(mixture, share)
    np.testing.assert_allclose(after.sum(axis=0), 1)
    assert after[1, able].std() < mixture[1, able].std()
