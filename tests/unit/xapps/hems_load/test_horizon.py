"""The grid of a plan's steps, by the clock; means of series on it keep their energy."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xapps.hems_load.horizon import NS, Steps, means_between, resample

NOON_NS = 1_460_462_400 * NS
QUARTER_NS = 900 * NS
starts = st.integers(0, 7_200_000).map(lambda ms: NOON_NS + ms * 1_000_000)
grids = st.builds(Steps, st.integers(0, 20), st.integers(2, 100))


@given(grids, starts)
def test_steps_are_minutes_and_then_quarters_that_end_with_those_of_the_clock(grid, start_ns):
    edges = grid.edges_ns(start_ns)
    lengths = np.diff(edges) / NS
    assert (edges[0], edges.size) == (start_ns, grid.count + 1)
    assert (lengths[: grid.minutes] == 60).all()
    assert 60 <= lengths[grid.minutes] < 960
    assert (lengths[grid.minutes + 1 :] == 900).all()
    assert (edges[grid.minutes + 1 :] % QUARTER_NS == 0).all()


@given(grids, starts, st.integers(0, 100_000_000))
def test_step_at_is_the_one_between_whose_edges_the_instant_lies(grid, start_ns, later_ms):
    now_ns = start_ns + later_ms * 1_000_000
    edges = grid.edges_ns(start_ns)
    expected = np.clip(np.searchsorted(edges, now_ns, side="right") - 1, 0, grid.count - 1)
    assert grid.at(np.array([start_ns]), now_ns)[0] == expected


def test_steps_of_the_app_reach_a_day_ahead_but_for_the_quarter_under_way():
    hours = [Steps().edges_h(NOON_NS + minute * 60 * NS)[-1] for minute in range(15)]
    assert hours[0] == 24
    assert all(23.75 < ahead <= 24 for ahead in hours)


@given(starts, st.integers(-40, 20), st.integers(1, 30))
def test_resample_gives_the_mean_of_each_step_and_holds_the_series_beyond_its_ends(start_ns, begins, values):
    series = np.random.default_rng(values).uniform(0, 5, values)
    origin_ns = NOON_NS + begins * QUARTER_NS
    edges = Steps(5, 12).edges_ns(start_ns - start_ns % NS)
    seconds = np.clip((np.arange(edges[0], edges[-1], NS) - origin_ns) // QUARTER_NS, 0, values - 1)
    each = series[seconds]
    expected = [each[(a - edges[0]) // NS : (b - edges[0]) // NS].mean() for a, b in pairwise(edges)]
    np.testing.assert_allclose(resample(series, origin_ns, 900.0, edges), expected, atol=1e-9)
    rows = resample(np.stack([series, 2 * series]), origin_ns, 900.0, edges)
    np.testing.assert_allclose(rows[1], 2 * rows[0])


@given(grids, starts)
def test_means_between_keep_the_energy_of_a_plan(grid, start_ns):
    power = np.random.default_rng(3).uniform(-2, 5, grid.count)
    edges = grid.edges_ns(start_ns)
    wanted = np.unique(np.concatenate([[start_ns], edges[edges % QUARTER_NS == 0]]))
    means = means_between(power, edges, wanted)
    np.testing.assert_allclose(means @ np.diff(wanted), power @ np.diff(edges), rtol=1e-6)
