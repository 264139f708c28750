"""Network calculus: worst-case delay and backlog from an arrival curve (token bucket) and a service (rate, latency).

Pure arrays of any shape (...), one element per flow. Source: Le Boudec and Thiran, Network Calculus (2001), chapter 1:
three bounds, concatenation, residual service under strict priority. Checked against brute-force simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RateLatency", "TokenBucket", "backlog_bound_mbit", "concatenated", "delay_bound_ms", "gate_service",
    "output_bucket", "rate_latency_of", "residual", "token_bucket_of",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenBucket:
    """At most `burst_mbit` + `rate_mbps` t arrive in any time t; both (...)."""

    rate_mbps: Floats
    burst_mbit: Floats


@dataclass(frozen=True)
class RateLatency:
    """While there is backlog, at least `rate_mbps` (t - `latency_ms`) is served within any time t; both (...)."""

    rate_mbps: Floats
    latency_ms: Floats


def delay_bound_ms(arrivals: TokenBucket, service: RateLatency) -> Floats:
    """Largest delay (...) [ms] of a first-in-first-out flow: T + b / R; infinite where more arrives than is served."""
    stable = (arrivals.rate_mbps <= service.rate_mbps) & (service.rate_mbps > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = service.latency_ms + arrivals.burst_mbit / service.rate_mbps * 1e3
    return np.asarray(np.where(stable, bound, np.inf))


def backlog_bound_mbit(arrivals: TokenBucket, service: RateLatency) -> Floats:
    """Largest backlog (...) [Mbit]: b + r T; infinite where more arrives than is served."""
    bound = arrivals.burst_mbit + arrivals.rate_mbps * service.latency_ms / 1e3
    return np.asarray(np.where(arrivals.rate_mbps <= service.rate_mbps, bound, np.inf))


def output_bucket(arrivals: TokenBucket, service: RateLatency) -> TokenBucket:
    """What leaves: the same rate, its burst grown by r T."""
    return TokenBucket(arrivals.rate_mbps, backlog_bound_mbit(arrivals, service))


def concatenated(first: RateLatency, second: RateLatency) -> RateLatency:
    """Two services in a row as one: the lower rate, both latencies. A burst is paid for only once."""
    return RateLatency(np.minimum(first.rate_mbps, second.rate_mbps), first.latency_ms + second.latency_ms)


def residual(service: RateLatency, above: TokenBucket) -> RateLatency:
    """What strict priority leaves to a flow under `above`: rate R - r, latency (R T + b) / (R - r)."""
    rate = np.maximum(service.rate_mbps - above.rate_mbps, 0.0)
    owed_mbit = service.rate_mbps * service.latency_ms / 1e3 + above.burst_mbit
    with np.errstate(divide="ignore", invalid="ignore"):
        latency = np.where(rate > 0, owed_mbit / rate * 1e3, np.inf)
    return RateLatency(rate, np.asarray(latency))


def gate_service(open_gates: NDArray[np.bool_], window_us: float, line_mbps: float) -> RateLatency:
    """Service (S,) of a line behind gates `open_gates` (W, S) whose cycle repeats, each slice as if alone.

    Rate: the open share of the line. Latency: the largest lead of an even server of that rate over the gate, wherever
    the time starts.
    """
    windows = len(open_gates)
    share = open_gates.mean(axis=0)
    opened = np.concatenate((np.zeros((1, open_gates.shape[1])), np.cumsum(np.tile(open_gates, (2, 1)), axis=0)))
    latency = np.zeros(len(share))
    for first in range(windows):
        spans = np.arange(windows + 1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            behind = spans - (opened[first : first + windows + 1] - opened[first]) / share
        latency = np.maximum(latency, np.where(share > 0, behind, np.inf).max(axis=0))
    return RateLatency(share * line_mbps, latency * window_us / 1e3)


def token_bucket_of(volumes_mbit: Floats, rate_mbps: Floats, step_ms: float) -> TokenBucket:
    """The least bucket of rate `rate_mbps` (...) that admits `volumes_mbit` (T, ...), each step's at its start."""
    numbers = np.arange(len(volumes_mbit)).reshape(-1, *([1] * (volumes_mbit.ndim - 1)))
    drained = rate_mbps * step_ms / 1e3 * numbers
    after = np.cumsum(volumes_mbit, axis=0) - drained
    before = after - volumes_mbit
    burst = (after - np.minimum.accumulate(before, axis=0)).max(axis=0)
    return TokenBucket(np.broadcast_to(rate_mbps, burst.shape), np.asarray(burst))


def rate_latency_of(capacity_mbps: Floats, step_ms: float) -> RateLatency:
    """The service of a server whose capacity (T, ...) changes by step: its last rate, and a latency.

    The last rate is what moved slots add up to once they carry; the latency is the most that the server falls behind.
    """
    rate = capacity_mbps[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        lag = np.where(rate > 0, 1.0 - capacity_mbps / rate, np.inf)
    path = np.concatenate((np.zeros((1, *rate.shape)), np.cumsum(lag, axis=0)))
    behind = (path - np.minimum.accumulate(path, axis=0)).max(axis=0)
    return RateLatency(rate, np.asarray(behind * step_ms))
