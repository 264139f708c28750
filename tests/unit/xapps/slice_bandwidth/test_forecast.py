"""Scenarios: probabilities, order, and that past loads alone make them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.forecast import (
    BLEND,
    COLUMNS,
    LEVELS,
    MASSES,
    OUTPUTS,
    RECENT,
    forecast_rows,
    foresee,
    persistence,
    scenarios,
)  # fmt: skip
from xapps.slice_bandwidth.history_kernels import RECURRENCE
from xapps.slice_bandwidth.model import LinkModel, predict
from xapps.slice_bandwidth.objective import limits_of, priced_table
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import HISTORY

QUIET = np.array(False)


def test_masses_are_probabilities_and_levels_their_middles():
    assert MASSES.sum() == pytest.approx(1)
    assert sum(BLEND) == pytest.approx(1)
    assert LEVELS[0] == pytest.approx(MASSES[0] / 2)
    assert (np.diff(LEVELS) > 0).all()
    assert LEVELS[-1] == pytest.approx(1 - MASSES[-1] / 2)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1e6), st.sampled_from([0.01, 0.1, 60.0]), st.booleans())
def test_forecast_rows_stay_finite_for_any_load(seed, load, period_s, alarm):
    history = np.random.default_rng(seed).uniform(0, load + 1e-9, (HISTORY, 3))
    rows = forecast_rows(history, np.array(period_s), np.array(alarm))
    assert rows.shape == (3, COLUMNS)
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() < 30


def test_forecast_rows_but_for_the_load_itself_do_not_depend_on_scale():
    history = np.random.default_rng(0).uniform(5e3, 6e3, (HISTORY, 3))
    one, ten = (forecast_rows(history * factor, np.array(0.1), QUIET) for factor in (1, 10))
    changed = np.flatnonzero(~np.isclose(one, ten, atol=1e-4).all(axis=0))
    assert changed.tolist() == [RECENT + 2]
    assert ten[:, RECENT + 2] - one[:, RECENT + 2] == pytest.approx(np.ones(3), abs=1e-5)


def test_forecast_rows_of_a_load_that_repeats_itself_say_what_comes_next():
    generator = np.random.default_rng(4)
    for period, high in ((17, 3), (40, 6), (75, 5)):
        steps = np.arange(HISTORY + 3)[:, None] + generator.integers(0, period, 3)
        load = 1e4 * np.where(steps % period < high, 2.5, 1.0)
        load *= np.exp(0.01 * generator.standard_normal(load.shape))
        row = forecast_rows(load[:HISTORY], np.array(0.1), QUIET)[:, -RECURRENCE:]
        coming = np.log(load[HISTORY:] / load[HISTORY - 1]).T
        assert (row[:, 0] < 0.05).all()
        assert row[:, 1:4] == pytest.approx(coming, abs=0.1)
        assert np.abs(row[:, 4:6]).max() < 0.1


def test_forecast_rows_of_noise_and_of_a_steady_load_know_no_repetition():
    noise = np.exp(0.3 * np.random.default_rng(5).standard_normal((HISTORY, 3))) * 1e4
    assert (forecast_rows(noise, np.array(0.1), QUIET)[:, -RECURRENCE] > 0.4).all()
    steady = forecast_rows(np.full((HISTORY, 3), 1e4), np.array(0.1), QUIET)[:, -RECURRENCE:]
    assert steady == pytest.approx(np.tile([1.0, 0, 0, 0, 0, 0], (3, 2)))


def test_scenarios_rise_whatever_the_network_says():
    generator = np.random.default_rng(1)
    history = generator.uniform(1e3, 2e4, (5, HISTORY, 3))
    crossed = lambda rows: generator.normal(size=(len(rows), OUTPUTS)).astype(np.float32)  # noqa: E731
    now, later = scenarios(crossed, history, np.full(5, 0.1), np.zeros(5, dtype=bool))
    assert now.shape == later.shape == (len(MASSES), 5, 3)
    assert (np.diff(now, axis=0) >= 0).all()
    assert (np.diff(later, axis=0) >= 0).all()


def test_scenarios_of_persistence_are_the_last_load():
    history = np.random.default_rng(2).uniform(1e3, 2e4, (HISTORY, 3))
    now, later = scenarios(persistence, history, np.array(0.1), QUIET)
    assert np.allclose(now, history[-1])
    assert np.allclose(later, history[-1])


def test_foresee_expected_cost_against_the_sum_over_scenarios():
    generator, link, limits = np.random.default_rng(3), LinkModel(), limits_of(SlicePolicy())
    loads = tuple(np.sort(generator.uniform(1e3, 6e4, (len(MASSES), 3)), axis=0) for _ in range(2))
    queue, split = np.array([100.0, 0.0, 400.0]), np.array([6, 8, 4])
    expected = foresee(loads, queue, np.array(0.1), limits, link).expected()
    sums = np.zeros((3, 3))
    for mass, now_load, later_load in zip(MASSES, *loads, strict=True):
        backlog = queue
        for stage, (load, length) in enumerate(((now_load, 0.1), (later_load, 0.2), (later_load, 0.8))):
            got = predict(load, backlog, split, length, link)
            table = priced_table(type(got)(*(np.tile(v, (21, 1)) for v in vars(got).values())), limits)
            sums[stage] += mass * table[split, [0, 1, 2]]
            backlog = got.queue_mbit
    for stage in range(3):
        assert expected[stage][split, [0, 1, 2]] == pytest.approx(sums[stage])
