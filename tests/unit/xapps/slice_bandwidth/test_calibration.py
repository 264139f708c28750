"""A link is found again from the periods that it made; nothing that is measured makes it other than finite."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.calibration import Served, calibrated
from xapps.slice_bandwidth.model import LinkModel, predict

SLOTS = np.array([5, 10, 5])


def served_by(link, load, queue, slots=SLOTS):
    got = predict(load, queue, slots, 0.1, link)
    return Served(load, queue, slots, 0.1, got.delay_ms, got.jitter_ms)


@pytest.mark.parametrize("factor", [0.3, 1.0, 40.0], ids=["smaller bursts", "as assumed", "terminals in step"])
def test_calibrated_finds_the_link_that_made_the_periods(factor):
    assumed = LinkModel()
    true = replace(assumed, burst_mbit=assumed.burst_mbit * factor, base_delay_ms=np.array([1.0, 0.12, 2.5]))
    generator, link = np.random.default_rng(0), assumed
    for _ in range(60):
        link = calibrated(link, served_by(true, generator.uniform(2e3, 1e4, 3), np.zeros(3)))
    assert link.burst_mbit == pytest.approx(true.burst_mbit, rel=0.02)
    assert link.base_delay_ms == pytest.approx(true.base_delay_ms, abs=0.02)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.85])
def test_calibrated_knows_bursts_in_turn_on_slot_counts_that_it_never_saw(share):
    """By hand: a share of the bits comes in bursts, one after the other; the others wait for nothing."""
    burst, base = 250.0, 0.1

    def measured(slots):
        rate = slots * 5.0  # [Mbit/ms]
        wait = share * burst / 2 / rate
        return base + wait, np.sqrt(share * burst**2 / 3 / rate**2 - wait**2)

    load, link = np.full(3, 12e3), LinkModel()
    for count in [8, 12] * 30:
        slots = np.full(3, count)
        delay, jitter = (np.full(3, value) for value in measured(count))
        link = calibrated(link, Served(load, np.zeros(3), slots, 0.1, delay, jitter))
    assert link.in_step == pytest.approx(np.full(3, share), abs=0.02)
    for count in (5, 10, 16):
        got = predict(load, np.zeros(3), np.full(3, count), 0.1, link)
        delay, jitter = measured(count)
        assert got.delay_ms == pytest.approx(np.full(3, delay), rel=0.02)
        assert got.jitter_ms == pytest.approx(np.full(3, jitter), rel=0.02)


def test_calibrated_congestion_says_little_about_bursts():
    load, queue = np.array([50e3, 5e3, 5e3]), np.array([500.0, 0, 0])
    noisy = replace(served_by(LinkModel(), load, queue), jitter_ms=np.array([18.0, 0.05, 0.2]))
    link = calibrated(LinkModel(), noisy)
    assert link.burst_mbit[0] < 2 * LinkModel().burst_mbit[0]


wide = st.floats(0, 1e7)


@settings(deadline=None)
@given(wide, wide, st.integers(0, 20), st.sampled_from([0.01, 0.1, 60.0]), wide, wide)
def test_calibrated_stays_finite_and_positive_for_any_measurement(load, queue, slots, period_s, delay, jitter):
    three = np.ones(3)
    link = calibrated(
        LinkModel(), Served(load * three, queue * three, np.full(3, slots), period_s, delay * three, jitter * three)
    )
    assert np.isfinite([link.base_delay_ms, link.burst_mbit]).all()
    assert (link.burst_mbit > 0).all()
    assert (link.base_delay_ms >= 0).all()
