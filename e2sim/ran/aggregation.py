"""The link that several nodes share behind their own: strict priority of slices, waits measured, losses shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.calculus import RateLatency, TokenBucket, delay_bound_ms, residual, token_bucket_of
from e2sim.ran.gating import GatedHops
from e2sim.ran.queues import STEP_MS, add_fixed
from e2sim.ran.transport import RanSample
from e2sim.ran.tsn import GateControlList, TsnHop

__all__ = ["AggregationLink"]

Floats = NDArray[np.float64]


class AggregationLink:
    """One link of `capacity_gbps` for S slices, both directions; a slice waits for all slices before it.

    A fluid queue per slice (`e2sim/ran/gating.py`, its gates always open) takes what the nodes' own queues let through,
    at the same inner step. What exceeds `buffer_mbit` together is lost, the last slices' first.
    """

    def __init__(self, capacity_gbps: float, slices: int, *, buffer_mbit: float) -> None:
        always = GateControlList(STEP_MS * 1e3, np.ones((1, slices), dtype=np.bool_))
        hop = TsnHop(always, line_gbps=capacity_gbps, hops=1, sync_error_ns=0.0)
        self.capacity_gbps = capacity_gbps
        self.buffer_mbit = buffer_mbit
        self.queues = tuple(GatedHops(hop, slices) for _ in range(2))

    def join(self, samples: Sequence[RanSample], departed_mbit: Sequence[Floats]) -> list[RanSample]:
        """`samples` of the nodes with the link's waits, bounds and losses added; `departed_mbit` (T, 2, S) per node.

        Of a fast-forwarded period only the part that was simulated burst by burst passes the link.
        """
        together = np.sum(departed_mbit, axis=0)
        bound_ms = np.stack([self._bound_ms(together[:, way], way) for way in range(2)])
        waits = [queue.run(together[:, way], STEP_MS) for way, queue in enumerate(self.queues)]
        lost = np.stack([self._overflow(queue) for queue in self.queues])
        mean, variance, longest = (
            np.stack([getattr(wait, name) for wait in waits]) for name in ("mean_ms", "variance_ms2", "max_ms")
        )
        volume = together.sum(axis=0)
        joined = []
        for sample, departed in zip(samples, departed_mbit, strict=True):
            share = np.divide(departed.sum(axis=0), volume, out=np.zeros_like(volume), where=volume > 0)
            stats = add_fixed(sample.stats, mean, variance, longest)
            mine = np.minimum(lost * share, stats.delivered_mbit)
            stats = replace(
                stats, delivered_mbit=stats.delivered_mbit - mine, dropped_mbit=stats.dropped_mbit + mine
            )  # fmt: skip
            joined.append(replace(sample, stats=stats, delay_bound_ms=sample.delay_bound_ms + bound_ms))
        return joined

    def _bound_ms(self, inflow: Floats, way: int) -> Floats:
        """Bound (S,) [ms] of the wait for `inflow` (T, S) [Mbit] and what waits already."""
        line_mbps = self.capacity_gbps * 1e3
        mean = inflow.mean(axis=0) / STEP_MS * 1e3
        sent = token_bucket_of(inflow, mean, STEP_MS)
        bursts = sent.burst_mbit + self.queues[way].backlog_mbit.sum(axis=0)
        line = RateLatency(np.array(line_mbps), np.array(0.0))
        bounds = [
            delay_bound_ms(
                TokenBucket(mean[s], bursts[s]), residual(line, TokenBucket(mean[:s].sum(), bursts[:s].sum()))
            )
            for s in range(len(mean))
        ]
        hop = self.queues[way].hop
        return np.array(bounds) + hop.blocking_us / 1e3

    def _overflow(self, queue: GatedHops) -> Floats:
        """Take what exceeds the buffer out of one direction's queues; what was taken (S,) [Mbit]."""
        lost = np.zeros(queue.backlog_mbit.shape[1])
        excess = float(queue.backlog_mbit.sum()) - self.buffer_mbit
        for s in reversed(range(len(lost))):
            if excess <= 0:
                break
            lost[s] = min(excess, float(queue.backlog_mbit[0, s]))
            queue.backlog_mbit[0, s] -= lost[s]
            excess -= lost[s]
        return lost
