import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from e2sim.ran.queues import STEP_MS, SliceQueues, add_fixed, merge

S = 2
arrivals = arrays(np.float64, (40, 2, S), elements=st.floats(0, 20))
capacities = arrays(np.float64, (40, S), elements=st.floats(1_000, 60_000))
NO_BURST = np.zeros((2, S))


def served(queues, volumes, capacity, burst=NO_BURST):
    return queues.run(volumes, capacity, burst)


@given(arrivals, arrivals, capacities, st.floats(1, 200))
@settings(max_examples=60, deadline=None)
def test_queues_conserve_volume_and_respect_their_bounds(first, second, capacity, buffer_mbit):
    queues = SliceQueues(np.full(S, buffer_mbit))
    before = np.zeros((2, S))
    for volumes in (first, second):
        stats = served(queues, volumes, capacity)
        np.testing.assert_allclose(
            before + stats.offered_mbit, stats.delivered_mbit + stats.dropped_mbit + stats.backlog_mbit, atol=1e-8
        )
        assert (stats.backlog_mbit <= buffer_mbit + 1e-9).all()
        assert (stats.delivered_mbit <= capacity.sum(axis=0) * STEP_MS / 1e3 + 1e-8).all()
        longest = buffer_mbit / capacity.min(axis=0) * 1e3
        assert (stats.delay_max_ms <= longest + 1e-9).all()
        assert (stats.delay_ms <= stats.delay_max_ms + 1e-9).all()
        assert (stats.jitter_ms <= stats.delay_max_ms + 1e-9).all()
        before = stats.backlog_mbit


@given(arrivals, capacities, st.floats(1, 100))
@settings(max_examples=60, deadline=None)
def test_queues_vectorised_path_against_step_by_step(volumes, capacity, buffer_mbit):
    """The closed form of Lindley's recursion (and its full-queue branch) against the recursion itself."""
    stats = served(SliceQueues(np.full(S, buffer_mbit)), volumes, capacity)
    level, lost = np.zeros((2, S)), np.zeros((2, S))
    for step in range(len(volumes)):
        raw = np.maximum(level + volumes[step] - capacity[step] * STEP_MS / 1e3, 0)
        level = np.minimum(raw, buffer_mbit)
        lost += raw - level
    np.testing.assert_allclose(stats.backlog_mbit, level, atol=1e-9)
    np.testing.assert_allclose(stats.dropped_mbit, lost, atol=1e-8)


@given(arrivals, capacities)
@settings(max_examples=40, deadline=None)
def test_queues_more_capacity_never_means_more_delay(volumes, capacity):
    slow, fast = (served(SliceQueues(np.full(S, 1e9)), volumes, capacity * factor) for factor in (1.0, 1.5))
    assert (fast.delay_ms <= slow.delay_ms + 1e-9).all()
    assert (fast.backlog_mbit <= slow.backlog_mbit + 1e-9).all()


def test_queues_constant_overload_by_hand():
    """30 Gb/s into 25 Gb/s for 8 ms: 40 Mbit wait at the end, the last bit for 1.6 ms, on average 0.8 ms."""
    volumes = np.full((40, 2, 1), 30_000 * STEP_MS / 1e3)
    stats = served(SliceQueues(np.array([1e6])), volumes, np.full((40, 1), 25_000.0), np.zeros((2, 1)))
    assert stats.backlog_mbit[0, 0] == pytest.approx(40)
    assert stats.delay_max_ms[0, 0] == pytest.approx(1.6)
    assert stats.delay_ms[0, 0] == pytest.approx(0.8)
    assert stats.jitter_ms[0, 0] == pytest.approx(1.6 / 12**0.5)


@pytest.mark.parametrize("load", [0.6, 0.8, 0.9])
def test_queues_delay_against_pollaczek_khinchine(load):
    """Poisson bursts of 12 Mbit at 25 Gb/s: M/D/1 says a burst waits rho b / (2 C (1 - rho)), its bits b / 2C more."""
    burst, rate = 12.0, 25_000.0
    rng = np.random.default_rng(3)
    mean = load * rate * STEP_MS / 1e3
    volumes = burst * rng.poisson(mean / burst, (200_000, 2, 1))
    stats = served(SliceQueues(np.array([1e9])), volumes, np.full((200_000, 1), rate), np.full((2, 1), burst))
    expected_ms = (load / (2 * (1 - load)) + 0.5) * burst / rate * 1e3
    assert stats.delay_ms.mean() == pytest.approx(expected_ms, rel=0.1)


@given(arrivals, capacities)
@settings(max_examples=30, deadline=None)
def test_merge_of_two_halves_is_the_whole(volumes, capacity):
    capacity = np.repeat(capacity[:1], 40, axis=0)  # a wait depends on what capacity is known to come
    whole = served(SliceQueues(np.full(S, 50.0)), volumes, capacity)
    queues = SliceQueues(np.full(S, 50.0))
    halves = merge(served(queues, volumes[:20], capacity[:20]), served(queues, volumes[20:], capacity[20:]))
    for name in ("offered_mbit", "delivered_mbit", "dropped_mbit", "backlog_mbit", "delay_ms", "delay_max_ms"):
        np.testing.assert_allclose(getattr(halves, name), getattr(whole, name), atol=1e-7, err_msg=name)
    np.testing.assert_allclose(halves.jitter_ms, whole.jitter_ms, atol=1e-3)


def test_drift_moves_the_backlog_as_the_mean_says():
    queues = SliceQueues(np.array([100.0]))
    stats = queues.drift(np.array([[30.0], [5.0]]), np.array([20.0]), 3.0)
    np.testing.assert_allclose(stats.backlog_mbit, [[30.0], [0.0]])
    np.testing.assert_allclose(stats.delivered_mbit, [[60.0], [15.0]])
    queues.drift(np.array([[90.0], [5.0]]), np.array([20.0]), 3.0)
    np.testing.assert_allclose(queues.backlog_mbit, [[100.0], [0.0]])


def test_add_fixed_adds_mean_and_variance():
    stats = served(SliceQueues(np.full(S, 50.0)), np.full((40, 2, S), 6.0), np.full((40, S), 25_000.0))
    more = add_fixed(stats, np.full((2, S), 0.5), np.full((2, S), 0.04), np.full((2, S), 1.0))
    np.testing.assert_allclose(more.delay_ms, stats.delay_ms + 0.5)
    np.testing.assert_allclose(more.jitter_ms**2, stats.jitter_ms**2 + 0.04)
