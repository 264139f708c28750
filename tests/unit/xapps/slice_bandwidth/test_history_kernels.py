"""Forecast rows and loads, one slice at a time and compiled, against NumPy written for whole arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth import history_kernels as kernels
from xapps.slice_bandwidth.history_kernels import RECENT, RECURRENCE, ROW

PERIODS = 192


def row_of(logs, period_s=0.1, alarm=False):
    return kernels.row_of(logs, period_s, alarm, np.zeros(ROW, dtype=np.float32))


def walk(seed):
    generator = np.random.default_rng(seed)
    return 9.0 + np.cumsum(generator.normal(0, generator.choice([0.0, 0.1, 0.6]), (PERIODS, 3)), axis=0)


def unlikeness(logs, lag):
    """The same quotient from two-pass sums over the two shifted halves themselves."""
    late, early = logs[lag:], logs[:-lag]
    spread = np.square(late).sum() + np.square(early).sum() - (late.sum() ** 2 + early.sum() ** 2) / len(late)
    return (len(late) * np.var(late - early) + 0.05) / (spread + 0.05)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.01, 0.1, 60.0]), st.booleans())
def test_row_of_against_numpy(seed, period_s, alarm):
    logs = walk(seed)
    got = row_of(logs, period_s, alarm)
    against, steps = np.clip(logs - logs[-1], -4, 4), np.diff(logs, axis=0)
    past, recent = against[-RECENT:-1], steps[-(RECENT - 1) :]
    want = [
        *past, past.mean(axis=0), np.minimum(np.sqrt((recent**2).mean(axis=0)), 4) * 5, past.max(axis=0),
        np.log10(np.exp(logs[-1]) / 5_000), np.full(3, alarm), np.full(3, np.log10(period_s / 0.1)), *np.eye(3),
        against.mean(axis=0), against.min(axis=0), against.max(axis=0), (steps > 0.2).sum(axis=0) * 10 / PERIODS,
        np.minimum(steps.max(axis=0), 4),
    ]  # fmt: skip
    assert got[:, :-RECURRENCE] == pytest.approx(np.array(want, dtype=float).T, abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_row_of_recurrence_against_every_lag_tried(seed):
    logs = walk(seed)
    for k, row in enumerate(row_of(logs)[:, -RECURRENCE:]):
        one = logs[:, k] - logs[:, k].mean()
        scores = {lag: unlikeness(one, lag) for lag in range(3, PERIODS - 23)}
        first = min(scores, key=scores.get)
        second = min((lag for lag in scores if lag == 3 or abs(lag - first) > 2), key=scores.get)
        for lag, figures in ((first, row[:6]), (second, row[6:])):
            then = PERIODS - 1 - lag
            ahead = one[then + 1 : then + 4] - one[then]
            back = one[[then, then - 1]] - one[[-1, -2]]
            want = np.clip([scores[lag], *ahead, *back], -4, 4)
            assert figures[0] == pytest.approx(want[0], abs=1e-5)
            if sum(abs(score - scores[lag]) < 1e-9 for score in scores.values()) == 1:
                assert figures == pytest.approx(want, abs=1e-5)


def test_loads_of_sorts_each_horizon_and_cuts_what_is_beyond_reason():
    ratios = np.array([[[0.5, -0.5, 9.0, 0.0], [0.0] * 4, [-9.0, 0.0, 0.25, -0.25]]], dtype=np.float32)
    loads = np.empty((2, 2, 1, 3))
    kernels.loads_of(ratios, np.array([[10.0, 20.0, 30.0]]), loads)
    assert loads[0, :, 0, 0] == pytest.approx(10 * np.exp([-0.5, 0.5]))
    assert loads[1, :, 0, 0] == pytest.approx(10 * np.exp([0.0, 4.0]))
    assert loads[:, :, 0, 1] == pytest.approx(np.full((2, 2), 20.0))
    assert loads[:, :, 0, 2] == pytest.approx(30 * np.exp([[-4.0, 0.0], [-0.25, 0.25]]))
