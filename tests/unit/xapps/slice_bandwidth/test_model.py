"""The analytic queue: hand calculations, a numerical integration as oracle, invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.model import LinkModel, predict, predict_table

FLUID = LinkModel(np.zeros(3), np.full(3, 1e-9), np.full(3, 2_500.0))


def test_predict_idle_link_leaves_the_base_delay_and_own_burst():
    link = LinkModel(np.array([0.4, 0.2, 0.4]), np.full(3, 2.0), np.full(3, 2_500.0))
    got = predict(np.zeros(3), np.zeros(3), np.array([5, 10, 5]), 0.1, link)
    # Half a burst of 2 Mbit at 25, 50 and 25 Gb/s takes 0.04, 0.02 and 0.04 ms.
    assert got.delay_ms == pytest.approx([0.44, 0.22, 0.44])
    assert got.queue_mbit == pytest.approx([0, 0, 0])


def test_predict_half_loaded_link_against_pollaczek_khinchine():
    link = LinkModel(np.zeros(3), np.full(3, 2.0), np.full(3, 2_500.0))
    got = predict(np.full(3, 12_500.0), np.zeros(3), np.full(3, 5), 10.0, link)
    # rho = 0.5: unfinished work S rho / (2 (1 - rho)) = 1 Mbit, own burst 1 Mbit: 2 Mbit at 25 Gb/s.
    assert got.delay_ms == pytest.approx(np.full(3, 2e3 / 25_000))


def test_predict_overload_builds_the_backlog_that_arithmetic_says():
    got = predict(np.full(3, 30_000.0), np.full(3, 100.0), np.full(3, 5), 0.1, FLUID)
    # 5 Gb/s too much for 0.1 s adds 500 Mbit: from 100 to 600, on average 350 Mbit, 14 ms at 25 Gb/s.
    assert got.queue_mbit == pytest.approx(np.full(3, 600.0))
    assert got.delay_ms == pytest.approx(np.full(3, 14.0), rel=1e-2)
    assert got.jitter_ms == pytest.approx(np.full(3, 500 / np.sqrt(12) / 25), rel=1e-2)


@pytest.mark.parametrize(
    ("offered", "start", "slots"),
    [(60_000.0, 0.0, 5), (10_000.0, 900.0, 5), (24_000.0, 50.0, 5), (55_000.0, 2_400.0, 4)],
    ids=["buffer fills", "drains and stays empty", "drains slowly", "starts nearly full"],
)
def test_predict_against_numerical_integration(offered: float, start: float, slots: int):
    period, steps = 0.1, 20_000
    capacity, level, path = slots * 5_000.0, start, []
    for _ in range(steps):
        level = min(max(level + (offered - capacity) * period / steps, 0.0), 2_500.0)
        path.append(level)
    got = predict(np.full(3, offered), np.full(3, start), np.full(3, slots), period, FLUID)
    wait = np.array(path) / capacity * 1e3
    burst_ms = np.sqrt(offered * 1e-9 * period) * 0.4 / capacity * 1e3 + 1e-6
    assert got.delay_ms[0] == pytest.approx(wait.mean(), rel=2e-3, abs=burst_ms)
    assert got.jitter_ms[0] == pytest.approx(wait.std(), rel=5e-3, abs=1e-3)
    assert got.queue_mbit[0] == pytest.approx(level, abs=0.5)


loads = st.floats(0, 120_000)


@settings(deadline=None)
@given(loads, st.floats(0, 4_000), st.floats(0.01, 60))
def test_predict_more_slots_never_delay_more(offered: float, queue: float, period: float):
    table = predict_table(np.full(3, offered), np.full(3, queue), period, LinkModel())
    assert (np.diff(table.delay_ms, axis=0) <= 1e-9 * table.delay_ms[:-1]).all()
    assert (np.diff(table.queue_mbit, axis=0) <= 1e-6).all()
    assert np.isfinite(table.delay_ms).all()
    assert np.isfinite(table.jitter_ms).all()


@settings(deadline=None)
@given(loads, loads, st.floats(0, 4_000))
def test_predict_more_load_never_delays_less(first: float, second: float, queue: float):
    low, high = sorted((first, second))
    table = [predict_table(np.full(3, load), np.full(3, queue), 0.1, LinkModel()).delay_ms for load in (low, high)]
    assert (table[1] - table[0] >= -1e-9 * table[0]).all()


def test_predict_table_rows_equal_scalar_predictions():
    offered, queue = np.array([7e3, 3e3, 40e3]), np.array([0.0, 20.0, 300.0])
    table = predict_table(offered, queue, 0.1, LinkModel())
    for number in (0, 1, 7, 20):
        one = predict(offered, queue, np.full(3, number), 0.1, LinkModel())
        assert np.array_equal(table.delay_ms[number], one.delay_ms)
        assert np.array_equal(table.jitter_ms[number], one.jitter_ms)
