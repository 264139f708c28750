"""Starts of runs that cannot be interrupted."""

import itertools

import numpy as np

from xapps.hems_load.fleet_problem import Shiftable
from xapps.hems_load.solver.runs import add_run, cheapest_start, run_load, smear_run


def edges_of(hours):
    return np.concatenate([[0.0], np.cumsum(hours)])


def load_of(hours, power, duration, start):
    load = np.zeros(hours.size)
    add_run(edges_of(hours), power, duration, start, load)
    return load


def test_cheapest_start_against_enumeration():
    rng = np.random.default_rng(0)
    hours = np.concatenate([np.full(6, 0.25), np.full(10, 1.0)])
    for duration, first, last in itertools.product((0.1, 0.5, 1.25, 3.0), (0, 4), (6, 12)):
        price = rng.uniform(0.1, 0.5, 16)
        start = cheapest_start(edges_of(hours), price, duration, first, last)
        costs = [(load_of(hours, 1.5, duration, s) * hours * price).sum() for s in range(first, last + 1)]
        assert first <= start <= last
        assert np.isclose(costs[start - first], min(costs))


def test_run_load_has_the_energy_of_the_runs():
    hours = np.concatenate([np.full(4, 1 / 60), np.full(8, 0.5)])
    runs = Shiftable(np.array([[2.0, 0.0]]), np.array([[1.3, 1.0]]), np.array([[0, 0]]), np.array([[5, 5]]))
    for start in range(6):
        load = run_load(runs, hours, np.array([[start, -1]]))
        assert np.isclose((load * hours).sum(), 2.6)
        assert np.allclose(load[0], load_of(hours, 2.0, 1.3, start))
    smeared = np.zeros(hours.size)
    smear_run(edges_of(hours), 2.0, 1.3, 0, 5, smeared)
    assert np.isclose((smeared * hours).sum(), 2.6)


def test_add_run_without_a_start_is_no_load():
    assert not load_of(np.ones(6), 1.0, 1.0, -1).any()


def test_cheapest_start_closed_window_starts_at_once():
    assert cheapest_start(edges_of(np.ones(6)), np.arange(6.0)[::-1].copy(), 1.0, 0, -2) == 0


def test_cheapest_start_run_that_passes_the_end_starts_at_the_first_step_that_it_may():
    assert cheapest_start(edges_of(np.ones(6)), np.arange(6.0)[::-1].copy(), 5.0, 3, 5) == 3
