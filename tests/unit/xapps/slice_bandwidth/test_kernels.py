"""The compiled formulas against plain Python ones, written out again here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.model import LinkModel, predict


@settings(deadline=None)
@given(st.floats(0, 90_000), st.floats(0, 5_000), st.sampled_from([0.0, 0.5]), st.integers(0, 20), st.booleans())
def test_priced_against_eq_3_written_out(delay, jitter, lost, slots, shortfall):
    weights, d_max, j_max, b_min, price = np.array([0.5, 0.3, 0.2]), 50.0, 10.0, 12_000.0, 3.0
    got = kernels.priced(delay, jitter, lost, slots, weights, d_max, j_max, b_min, price, shortfall)
    granted = slots * 5_000
    third = (b_min / max(granted, b_min * 1e-3)) if shortfall else granted / b_min
    broken = (delay > d_max or lost > 0) + (jitter > j_max) + (granted < b_min)
    expected = min(0.5 * delay / d_max, 10) + min(0.3 * jitter / j_max, 10) + 0.2 * third + price * broken
    assert got == pytest.approx(expected)


def test_terms_of_says_which_limits_break():
    terms, broken = kernels.terms_of(60.0, 5.0, 0.0, 2, np.array([0.5, 0.3, 0.2]), 50.0, 10.0, 12_000.0, False)
    assert terms == pytest.approx([0.6, 0.15, 0.2 * 10 / 12])
    assert broken.tolist() == [True, False, True]


def test_terms_of_what_is_lost_is_not_there_in_time():
    figures = (2, np.array([0.5, 0.3, 0.2]), 50.0, 10.0, 12_000.0, False)
    kept, lossy = kernels.terms_of(20.0, 5.0, 0.0, *figures), kernels.terms_of(20.0, 5.0, 1e-3, *figures)
    assert lossy[0] == pytest.approx(kept[0])
    assert (kept[1].tolist(), lossy[1].tolist()) == ([False, False, True], [True, False, True])


def test_foreseen_follows_the_backlog_through_the_stages():
    loads = np.array([[[[40e3, 4e3, 9e3]]], [[[20e3, 4e3, 9e3]]]])
    one, link = np.ones((1, 3)), LinkModel()
    stages, left = np.empty((2, 1, 1, 21, 3)), np.empty((1, 1, 21, 3))
    weights = np.full((1, 3, 3), [1.0, 0.0, 0.0])
    kernels.foreseen(
        loads, np.zeros((1, 3)), np.array([[0.1], [0.2]]),
        kernels.Terms(weights, 50 * one, 1e9 * one, 1.0 * one, 0 * one, np.array([False]), np.zeros(1)),
        kernels.Links(*(value[None] for value in vars(link).values())), stages, left,
    )  # fmt: skip
    first = predict(loads[0, 0, 0], np.zeros(3), np.full(3, 5), 0.1, link)
    second = predict(loads[1, 0, 0], first.queue_mbit, np.full(3, 5), 0.2, link)
    assert left[0, 0, 5] == pytest.approx(first.queue_mbit)
    assert stages[:, 0, 0, 5] == pytest.approx(np.array([first.delay_ms, second.delay_ms]) / 50)
