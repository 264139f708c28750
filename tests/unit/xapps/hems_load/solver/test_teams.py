"""Sums by team against plain numpy, and who is in a team with whom."""

import numpy as np
import pytest

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import Effort, solve_fleet
from xapps.hems_load.solver.teams import TEAMS, Habits, blended, by_team, form_teams, mixed_by_team

RNG = np.random.default_rng(5)
TEAM = RNG.integers(0, 4, 30)
PARTS = list(RNG.normal(size=(3, 30, 7)))
WEIGHTS = RNG.dirichlet(np.ones(3), 30).T


def test_by_team_against_sums_one_by_one():
    expected = np.zeros((4, 7))
    np.add.at(expected, TEAM, PARTS[0])
    np.testing.assert_allclose(by_team(PARTS[0], TEAM, 4), expected)
    np.testing.assert_allclose(by_team(PARTS[0][:, ::2], TEAM, 4), expected[:, ::2])


def test_mixed_by_team_against_the_sums_of_what_is_blended():
    np.testing.assert_allclose(mixed_by_team(PARTS, WEIGHTS, TEAM, 4), by_team(blended(PARTS, WEIGHTS), TEAM, 4))


@pytest.mark.parametrize("shape", [(30, 7), (30, 2, 7), (30, 0, 7)], ids=["steps", "appliances", "no appliance"])
def test_blended_against_einsum(shape):
    parts = list(RNG.normal(size=(3, *shape)))
    np.testing.assert_allclose(blended(parts, WEIGHTS), np.einsum("kn,kn...->n...", WEIGHTS, np.stack(parts)))


def test_habits_against_numpy():
    free, _ = solve_fleet(make_fleet(7, homes=12), effort=Effort(threads=1))
    habits = Habits.of(free)
    np.testing.assert_array_equal(habits.kind % 2, free.ev_kw.any(axis=1))
    np.testing.assert_array_equal(habits.kind // 2, free.battery_kw.any(axis=1))
    np.testing.assert_array_equal(habits.most_kw, free.net_kw.max(axis=1))
    np.testing.assert_array_equal(habits.when, free.net_kw.argmax(axis=1))


def test_form_teams_has_every_home_once_in_teams_of_one_size():
    problem = make_fleet(7, homes=3 * TEAMS // 2)
    free, _ = solve_fleet(problem, effort=Effort(threads=1))
    share = np.linspace(0, 1, problem.homes)[:, None]
    team, teams = form_teams(Habits.of(free), share, share > 0.5)
    sizes = np.bincount(team, minlength=teams)
    assert teams == TEAMS
    assert set(sizes.tolist()) == {1, 2}
    able = by_team((share > 0.5).astype(float), team, teams)[:, 0]
    assert (np.minimum(able, sizes - able) > 0).sum() <= 4  # at most one mixed team for each kind of home
