"""Starts of runs that cannot be interrupted."""

import itertools

import numpy as np

from xapps.hems_load.fleet_problem import Shiftable
from xapps.hems_load.solver.runs import choose_starts, run_load, smeared_load


def runs_of(power, duration, first, last):
    return Shiftable(*(np.array([[value]]) for value in (power, duration)), np.array([[first]]), np.array([[last]]))


def test_choose_starts_against_enumeration():
    rng = np.random.default_rng(0)
    hours = np.concatenate([np.full(6, 0.25), np.full(10, 1.0)])
    price = rng.uniform(0.1, 0.5, (1, 16))
    for duration, first, last in itertools.product((0.5, 1.25, 3.0), (0, 4), (6, 12)):
        runs = runs_of(1.5, duration, first, last)
        start = choose_starts(runs, hours, price)[0, 0]
        costs = [(run_load(runs, hours, np.array([[s]])) * hours * price).sum() for s in range(first, last + 1)]
        assert np.isclose(costs[start - first], min(costs))


def test_run_load_has_the_energy_of_the_runs():
    hours = np.concatenate([np.full(4, 1 / 60), np.full(8, 0.5)])
    runs = runs_of(2.0, 1.3, 0, 5)
    for start in range(6):
        assert np.isclose((run_load(runs, hours, np.array([[start]])) * hours).sum(), 2.6)
    assert np.isclose((smeared_load(runs, hours) * hours).sum(), 2.6)


def test_choose_starts_absent_run_has_none():
    assert choose_starts(runs_of(0.0, 1.0, 0, 3), np.ones(6), np.ones((1, 6)))[0, 0] == -1


def test_choose_starts_closed_window_starts_at_once():
    assert choose_starts(runs_of(1.0, 1.0, 0, -2), np.ones(6), np.arange(6.0)[None, ::-1])[0, 0] == 0
