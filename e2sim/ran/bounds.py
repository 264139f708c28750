"""Network-calculus bound of what a node's queues and TSN hops can make traffic wait, beside what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.calculus import (
    RateLatency,
    TokenBucket,
    delay_bound_ms,
    gate_service,
    rate_latency_of,
    residual,
    token_bucket_of,
)  # fmt: skip
from e2sim.ran.gating import gating_bound_applies
from e2sim.ran.tsn import TsnHop, gating_bound_ms

__all__ = ["QueueLoad", "hop_bound_ms", "wait_bound_ms"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QueueLoad:
    """What queues meet in a period: arrivals (T, D, S) [Mbit], capacity (T, S) [Mb/s], burst and backlog (D, S), buffer
    (S,), and what already waits at the hops (D, S) [Mbit].
    """

    arrivals_mbit: Floats
    capacity_mbps: Floats
    burst_mbit: Floats
    backlog_mbit: Floats
    buffer_mbit: Floats
    at_hops_mbit: Floats
    step_ms: float


def wait_bound_ms(hop: TsnHop, load: QueueLoad) -> Floats:
    """Bound (D, S) [ms] of the wait in the queue and at all hops; infinite where none exists.

    The arrivals' bucket has their mean rate (the service's where they exceed it), the least burst that admits them and
    what waited before; no more than the buffer can wait.
    """
    service = rate_latency_of(load.capacity_mbps, load.step_ms)
    duration_s = len(load.arrivals_mbit) * load.step_ms / 1e3
    mean = np.minimum(load.arrivals_mbit.sum(axis=0) / duration_s, service.rate_mbps)
    bucket = token_bucket_of(load.arrivals_mbit, mean, load.step_ms)
    waiting = np.minimum(bucket.burst_mbit + load.backlog_mbit, load.buffer_mbit) + load.burst_mbit
    queue_ms = delay_bound_ms(TokenBucket(mean, waiting), service)
    means = TokenBucket(mean, waiting + mean * service.latency_ms / 1e3)
    return np.asarray(queue_ms + np.stack([
        hop_bound_ms(hop, service.rate_mbps, TokenBucket(means.rate_mbps[way], means.burst_mbit[way]), already)
        for way, already in enumerate(load.at_hops_mbit)
    ]))  # fmt: skip


def hop_bound_ms(hop: TsnHop, peak_mbps: Floats, sent: TokenBucket, already_mbit: Floats) -> Floats:
    """Bound (S,) [ms] of the wait at all hops for slices policed to `peak_mbps` (S,) that send `sent`.

    Eq (1) where it applies, or what is less: the first of aligned hops is a gated line of which strict priority leaves
    a slice the rest, and the others pass on at once; the slices above may send their peaks without a burst or their
    means with one, whichever leaves more. That is not known for hops that are not aligned.
    """
    slices = len(peak_mbps)
    eq_1 = gating_bound_ms(hop, [1] * slices)
    applies = _applies(hop, tuple(np.ceil(peak_mbps).tolist()))
    line = _line(hop)
    fixed_ms = hop.hops * hop.blocking_us / 1e3 + hop.sync_error_ns / 1e6
    bounds = np.full(slices, np.inf)
    for index in range(slices):
        if (
            applies[index]
            and already_mbit[: index + 1].sum() <= peak_mbps[: index + 1].sum() * hop.gates.cycle_us / 1e6
        ):
            bounds[index] = eq_1[index]
        alone = RateLatency(line.rate_mbps[index : index + 1], line.latency_ms[index : index + 1])
        for rates, bursts in (
            () if not hop.aligned else ((peak_mbps, np.zeros(slices)), (sent.rate_mbps, sent.burst_mbit))
        ):
            above = TokenBucket(rates[:index].sum(keepdims=True), (bursts + already_mbit)[:index].sum(keepdims=True))
            left = residual(alone, above)
            mine = TokenBucket(rates[index : index + 1], (bursts + already_mbit)[index : index + 1])
            bounds[index] = min(bounds[index], float(delay_bound_ms(mine, left)[0]) + fixed_ms)
    return bounds


@lru_cache(maxsize=64)
def _line(hop: TsnHop) -> RateLatency:
    return gate_service(hop.gates.open_gates, hop.gates.window_us, hop.line_gbps * 1e3)


@lru_cache(maxsize=1_024)
def _applies(hop: TsnHop, peak_mbps: tuple[float, ...]) -> NDArray[np.bool_]:
    return gating_bound_applies(hop, np.array(peak_mbps))
