"""Every bound against brute-force simulation of worst and random cases; the simulation is written here, bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.ran.calculus import (
    RateLatency,
    TokenBucket,
    backlog_bound_mbit,
    concatenated,
    delay_bound_ms,
    gate_service,
    output_bucket,
    rate_latency_of,
    residual,
    token_bucket_of,
)  # fmt: skip

DT_MS, STEPS = 0.05, 400
rates, bursts, latencies = st.floats(10, 900), st.floats(0.01, 20), st.floats(0, 4)


def greedy(rate, burst):
    """The worst arrivals of a token bucket: the burst at once, then the rate."""
    volumes = np.full(STEPS, rate * DT_MS / 1e3)
    volumes[0] += burst
    return volumes


def conforming(rate, burst, generator):
    """Random arrivals that a token bucket admits."""
    tokens, volumes = burst, np.zeros(STEPS)
    for step in range(STEPS):
        volumes[step] = min(tokens, generator.exponential(burst)) if generator.random() < 0.3 else 0.0
        tokens = min(tokens - volumes[step] + rate * DT_MS / 1e3, burst)
    return volumes


def lazy_server(volumes, rate, latency):
    """Backlog path and departures of the slowest server that keeps (rate, latency): whenever a busy period starts it is
    idle for the latency, then serves at the rate.
    """
    level, busy_ms, departures, path = 0.0, 0.0, np.zeros(STEPS), np.zeros(STEPS)
    for step in range(STEPS):
        if level <= 1e-12:
            busy_ms = 0.0
        level += volumes[step]
        path[step] = level
        serving_ms = np.clip(busy_ms + DT_MS - latency, 0.0, DT_MS)
        departures[step] = min(level, rate * serving_ms / 1e3)
        level -= departures[step]
        busy_ms += DT_MS
    return path, departures


def longest_delay_ms(volumes, departures):
    """Over arrivals at step starts that leave within the run: when the departures reach their cumulative volume."""
    arrived, left = np.cumsum(volumes), np.cumsum(departures)
    longest = 0.0
    for step in np.flatnonzero(volumes > 1e-9):
        if arrived[step] > left[-1] + 1e-9:
            break
        end = int(np.searchsorted(left, arrived[step] - 1e-9))
        share = (arrived[step] - (left[end] - departures[end])) / max(departures[end], 1e-12)
        longest = max(longest, (end + min(share, 1.0) - step) * DT_MS)
    return longest


@settings(deadline=None)
@given(rates, bursts, latencies, st.floats(1.05, 3), st.integers(0, 2**32))
def test_bounds_hold_for_conforming_arrivals(rate, burst, latency, headroom, seed):
    bucket, service = (
        TokenBucket(np.array(rate), np.array(burst)),
        RateLatency(np.array(rate * headroom), np.array(latency)),
    )
    for volumes in (greedy(rate, burst), conforming(rate, burst, np.random.default_rng(seed))):
        path, departures = lazy_server(volumes, rate * headroom, latency)
        assert longest_delay_ms(volumes, departures) <= delay_bound_ms(bucket, service) + DT_MS
        assert path.max() <= backlog_bound_mbit(bucket, service) + rate * 2 * DT_MS / 1e3
        out = token_bucket_of(departures, np.array(rate), DT_MS)
        one_step = rate * headroom * DT_MS / 1e3
        assert out.burst_mbit <= output_bucket(bucket, service).burst_mbit + one_step


def test_delay_bound_is_reached_by_the_greedy_source():
    """2 Mbit at once into 200 Mb/s after 2 ms: the last bit of the burst waits 2 + 10 ms."""
    volumes = np.zeros(STEPS)
    volumes[0] = 2.0
    _, departures = lazy_server(volumes, 200.0, 2.0)
    bound = delay_bound_ms(TokenBucket(np.array(100.0), np.array(2.0)), RateLatency(np.array(200.0), np.array(2.0)))
    assert bound == pytest.approx(12.0)
    assert longest_delay_ms(volumes, departures) == pytest.approx(12.0, abs=0.2)


def test_bounds_of_an_overloaded_server_are_infinite():
    bucket, service = TokenBucket(np.array([300.0]), np.array([1.0])), RateLatency(np.array([200.0]), np.array([0.0]))
    assert np.isinf(delay_bound_ms(bucket, service)).all()
    assert np.isinf(backlog_bound_mbit(bucket, service)).all()


@settings(deadline=None)
@given(rates, bursts, latencies, latencies, st.floats(1.1, 3), st.floats(1.1, 3))
def test_burst_is_paid_once_over_two_servers(rate, burst, first_ms, second_ms, first_factor, second_factor):
    bucket = TokenBucket(np.array(rate), np.array(burst))
    services = [
        RateLatency(np.array(rate * f), np.array(t)) for f, t in ((first_factor, first_ms), (second_factor, second_ms))
    ]
    together = delay_bound_ms(bucket, concatenated(*services))
    apart = delay_bound_ms(bucket, services[0]) + delay_bound_ms(output_bucket(bucket, services[0]), services[1])
    assert together <= apart + 1e-9
    volumes = greedy(rate, burst)
    _, middle = lazy_server(volumes, rate * first_factor, first_ms)
    _, out = lazy_server(middle, rate * second_factor, second_ms)
    assert longest_delay_ms(volumes, out) <= together + 2 * DT_MS


@settings(deadline=None)
@given(rates, bursts, rates, bursts, st.floats(1.1, 3), st.integers(0, 2**32))
def test_residual_service_holds_under_strict_priority(rate, burst, above_rate, above_burst, headroom, seed):
    generator, line = np.random.default_rng(seed), (rate + above_rate) * headroom
    above, mine = conforming(above_rate, above_burst, generator), conforming(rate, burst, generator)
    waiting = np.zeros(2)
    left = np.zeros(STEPS)
    for step in range(STEPS):
        waiting += (above[step], mine[step])
        first = min(waiting[0], line * DT_MS / 1e3)
        left[step] = min(waiting[1], line * DT_MS / 1e3 - first)
        waiting -= (first, left[step])
    service = residual(
        RateLatency(np.array(line), np.array(0.0)), TokenBucket(np.array(above_rate), np.array(above_burst))
    )
    bound = delay_bound_ms(TokenBucket(np.array(rate), np.array(burst)), service)
    assert longest_delay_ms(mine, left) <= bound + DT_MS


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8).filter(any), st.integers(0, 7))
def test_gate_service_is_a_lower_curve_from_any_start(is_open, start):
    gates = np.array(is_open)[:, None]
    service = gate_service(gates, 200.0, 1_000.0)
    served_mbit, fine = 0.0, 20
    for step in range(fine * 3 * len(is_open)):
        served_mbit += is_open[(start + step // fine) % len(is_open)] * 1_000.0 * 0.2 / fine / 1e3
        time_ms = (step + 1) * 0.2 / fine
        promised = service.rate_mbps[0] * max(time_ms - service.latency_ms[0], 0.0) / 1e3
        assert served_mbit >= promised - 1e-9


def test_gate_service_by_hand():
    """Closed for 200 of 1,000 us: 80 % of the line after 200 us; never open: nothing."""
    service = gate_service(np.array([[1, 0], [1, 0], [0, 0], [1, 0], [1, 0]], dtype=bool), 200.0, 100.0)
    np.testing.assert_allclose(service.rate_mbps, [80.0, 0.0])
    np.testing.assert_allclose(service.latency_ms, [0.2, np.inf])


@settings(deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), rates)
def test_token_bucket_of_is_the_least_that_admits(volumes, rate):
    """By definition: the most that any run of steps brings above the rate."""
    most = max(
        sum(volumes[first : last + 1]) - rate * DT_MS / 1e3 * (last - first)
        for first in range(len(volumes))
        for last in range(first, len(volumes))
    )
    assert token_bucket_of(np.array(volumes), np.array(rate), DT_MS).burst_mbit == pytest.approx(most, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(0, 500), min_size=1, max_size=30), st.floats(1, 500))
def test_rate_latency_of_promises_no_more_than_there_is(capacities, last):
    capacity = np.array([*capacities, last])
    service = rate_latency_of(capacity, DT_MS)
    for first in range(len(capacity)):
        served = np.cumsum(capacity[first:]) * DT_MS / 1e3
        times_ms = np.arange(1, len(served) + 1) * DT_MS
        promised = service.rate_mbps * np.maximum(times_ms - service.latency_ms, 0.0) / 1e3
        assert (served >= promised - 1e-9).all()
