"""Masks and sums over splits, one split at a time and compiled, against NumPy over all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth import lattice_kernels as kernels
from xapps.slice_bandwidth.lattice import SPLITS
from xapps.slice_bandwidth.model import LinkModel
from xapps.slice_bandwidth.safety import delay_bound_ms


def test_sums_of_keeps_the_precision_it_is_given_and_takes_leading_axes():
    table = np.random.default_rng(0).normal(size=(4, 21, 3))
    for kind in (np.float32, np.float64):
        got = kernels.sums_of(table.astype(kind), SPLITS)
        assert got.dtype == kind
        assert got == pytest.approx(table[:, SPLITS, [0, 1, 2]].sum(axis=-1), abs=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 20), min_size=3, max_size=3), st.integers(1, 20))
def test_near_against_numpy(seed, slots, most):
    generator = np.random.default_rng(seed)
    inside = generator.random(len(SPLITS)) < generator.choice([0.01, 0.5, 1.0])
    inside[0] = True
    change = SPLITS - slots
    moved = np.maximum(np.maximum(change, 0).sum(axis=1), np.maximum(-change, 0).sum(axis=1))
    want = inside & (moved <= most)
    assert np.array_equal(kernels.near(np.array(slots), SPLITS, inside, most), want if want.any() else inside)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 2e5), st.floats(0, 3_000))
def test_in_time_against_the_table_of_bounds(seed, load, queue):
    generator, link = np.random.default_rng(seed), LinkModel()
    offered, backlog = generator.uniform(0, load + 1, (2, 3)), generator.uniform(0, queue + 1, (2, 3))
    d_max, permitted = generator.uniform(1, 100, 3), generator.random(len(SPLITS)) < 0.3
    within = delay_bound_ms(offered, backlog, 0.1, link) <= d_max
    want = permitted & within[:, SPLITS, [0, 1, 2]].all(axis=-1)
    want = np.where(want.any(axis=-1, keepdims=True), want, permitted)
    given_ = (offered, backlog, 0.1, d_max, link.base_delay_ms, link.burst_mbit, SPLITS, permitted)
    assert np.array_equal(kernels.in_time(*given_, 1.0), want)
    assert np.array_equal(kernels.in_time(*given_, 0.05), np.stack([permitted, permitted]))
