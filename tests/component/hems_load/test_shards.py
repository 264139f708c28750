"""A fleet in two Ray actors is planned as it is in one process: the same prices, the same plans, the cap kept."""

import numpy as np
import pytest
import ray

from benchmarks.city import City
from ric.errors import TwinRicError
from xapps.hems_load.shards import LocalHost, LostShardError, RayShards, SharedFleet
from xapps.hems_load.solver import Effort, coordinate_fleet, solve_fleet
from xapps.hems_load.solver.coordination import FEW_TO_LEVEL
from xapps.hems_load.solver.teams import TEAMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]
HOMES, EFFORT = 60, Effort(threads=1)
OPTIONS = {"rounds": 6}


def edges_h(problem, cycle):
    return 0.25 * cycle + np.concatenate([[0.0], np.cumsum(problem.hours)])


@pytest.fixture
def shards(ray_cluster):
    started = []

    def start(number):
        started.append(RayShards(number, EFFORT))
        return started[-1]

    yield start
    for each in started:
        each.close()


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
        fleet.pose(parts, edges_h(problem, cycle))
        outcomes.append((fleet.plan(cap, **OPTIONS), fleet.plans()))
    return outcomes, cap, problem


def test_shards_in_two_ray_actors_plan_as_those_of_one_process(shards):
    local = [LocalHost(EFFORT, TEAMS // 2) for _ in range(2)]
    (here, cap, problem), (there, _, _) = (cycles(SharedFleet(hosts)) for hosts in (local, shards(2).hosts("a")))
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


def test_shards_of_unlike_sizes_even_their_teams_alike():
    """20 and 21 homes, on either side of the number from which teams are evened inside."""
    city, teams = City(41, 3), 20 // FEW_TO_LEVEL
    problem = city.problem(0)
    cap = np.full(problem.steps, 0.8 * solve_fleet(problem, effort=EFFORT)[0].fleet_net_kw.max())
    fleet = SharedFleet([LocalHost(EFFORT, teams), LocalHost(EFFORT, teams)])
    fleet.pose([problem.take(rows) for rows in np.array_split(np.arange(41), 2)], edges_h(problem, 0))
    fleet.plan(cap, **OPTIONS)
    assert (sum(plan.fleet_net_kw for plan in fleet.plans()) <= cap * 1.02).all()


def test_shard_that_cannot_be_solved_or_whose_actor_is_gone_tells_so_across_processes(shards):
    problem, actors = City(8, 3).problem(0), shards(1)
    problem.meter.load_kw[3] = np.nan
    fleet = SharedFleet(actors.hosts("a"))
    fleet.pose([problem], edges_h(problem, 0))
    with pytest.raises(TwinRicError, match="SOLVE-FAILED home") as failed:
        fleet.plan(np.full(problem.steps, 10.0))
    assert not isinstance(failed.value, LostShardError)
    ray.kill(actors.actors[0])
    with pytest.raises(LostShardError, match=r"SOLVE-FAILED shard.*a shard that answers"):
        fleet.plan(np.full(problem.steps, 10.0))
