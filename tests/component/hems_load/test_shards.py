"""A fleet in two Ray actors is planned as it is in one process: the same prices, the same plans, the cap kept."""

import numpy as np
import pytest
import ray

from benchmarks.city import City
from ric.errors import TwinRicError
from xapps.hems_load.shards import LocalHost, RayHost, SharedFleet
from xapps.hems_load.solver import Effort, coordinate_fleet, solve_fleet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]
HOMES, EFFORT = 60, Effort(threads=1)
OPTIONS = {"rounds": 6}


def cycles(fleet):
    """Two cycles, a step apart, of a city in two halves under a cap."""
    city = City(HOMES, 3)
    halves = np.array_split(np.arange(HOMES), 2)
    outcomes, cap = [], None
    for cycle in range(2):
        problem = city.problem(cycle)
        if cap is None:
            cap = np.full(problem.steps, 0.8 * solve_fleet(problem, effort=EFFORT)[0].fleet_net_kw.max())
        parts = [problem.take(rows) for rows in halves]
        fleet.pose(parts, shift_steps=1)
        outcomes.append((fleet.plan(cap, problem.hours, **OPTIONS), fleet.plans()))
    return outcomes, cap, problem


def test_shards_in_two_ray_actors_plan_as_those_of_one_process(ray_cluster):
    (here, cap, problem), (there, _, _) = (
        cycles(SharedFleet([kind(EFFORT, 24), kind(EFFORT, 24)])) for kind in (LocalHost, RayHost)
    )
    for (mine, own_plans), (theirs, their_plans) in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs.price, mine.price, atol=1e-9)
        assert theirs.rounds == mine.rounds >= 1
        for one, other in zip(own_plans, their_plans, strict=True):
            np.testing.assert_allclose(other.net_kw, one.net_kw, atol=1e-6)
    plans = there[-1][1]
    together = np.concatenate([plan.net_kw for plan in plans]).sum(axis=0)
    assert (together <= cap * 1.005).all()
    whole, _ = coordinate_fleet(problem, cap, effort=EFFORT, **OPTIONS)
    cost = sum(float(plan.costs.total.sum()) for plan in plans)
    assert cost == pytest.approx(float(whole.costs.total.sum()), abs=0.01 * HOMES)


def test_shard_that_cannot_be_solved_tells_so_across_processes(ray_cluster):
    problem = City(8, 3).problem(0)
    problem.meter.load_kw[3] = np.nan
    fleet = SharedFleet([RayHost(EFFORT)])
    fleet.pose([problem])
    with pytest.raises(TwinRicError, match="SOLVE-FAILED"):
        fleet.plan(np.full(problem.steps, 10.0), problem.hours)


def test_shard_whose_actor_is_gone_is_told_as_such(ray_cluster):
    problem, host = City(8, 3).problem(0), RayHost(EFFORT)
    fleet = SharedFleet([host])
    fleet.pose([problem])
    ray.kill(host._actor)
    with pytest.raises(TwinRicError, match=r"SOLVE-FAILED shard.*a shard that answers"):
        fleet.plan(np.full(problem.steps, 10.0), problem.hours)
