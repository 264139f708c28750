"""The shared link: hand calculations, priority of slices, what its buffer leaves out."""

import numpy as np
import pytest

from xapps.slice_bandwidth.aggregation import pass_link

PERIOD_S = np.array([0.1])


def link(volumes, queue=(0, 0, 0), mbps=100_000.0, buffer_mbit=5_000.0):
    return pass_link(np.array([volumes], float), np.array([queue], float), np.array([mbps]), PERIOD_S, buffer_mbit)


def test_pass_link_what_fits_does_not_wait():
    got = link([3_000, 3_000, 3_000])
    assert not got.mean_ms.any()
    assert not got.queue_mbit.any()


def test_pass_link_the_last_slice_waits_for_what_the_others_leave():
    got = link([4_000, 4_000, 4_000])
    # 2,000 Mbit are left for monitoring in 0.1 s: 2,000 more wait at the end, 1,000 on average, at 20 Gb/s.
    assert got.mean_ms[0] == pytest.approx([0, 0, 50])
    assert got.queue_mbit[0] == pytest.approx([0, 0, 2_000])
    assert got.variance_ms2[0, 2] == pytest.approx((100 / np.sqrt(12)) ** 2)


def test_pass_link_a_backlog_drains_with_what_is_free():
    got = link([0, 0, 5_000], queue=(0, 0, 2_000))
    assert got.queue_mbit[0] == pytest.approx([0, 0, 0])


def test_pass_link_the_buffer_belongs_to_the_first_slices():
    got = link([12_000, 0, 4_000], buffer_mbit=3_000)
    assert got.queue_mbit[0] == pytest.approx([2_000, 0, 1_000])
    assert got.lost_share[0] == pytest.approx([0, 0, 0.75])
