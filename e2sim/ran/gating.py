"""The TSN hops as fluid queues behind gates: what each slice's bits wait there, measured.

Exact for fluid input: rates are constant on segments; an event is a gate's edge, a step of the input or a queue that
runs empty. Among open gates the slices are served in strict priority, first slice first: with IEEE 802.1Qbu an express
frame waits for at most a fragment of a lower one, which `e2sim/ran/tsn.py` adds. Rates in Mbit/ms (Gb/s), times in ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.kernels import compiled
from e2sim.ran.tsn import GateDelay, TsnHop, with_blocking

__all__ = ["GatedHops", "gating_bound_applies"]

Floats = NDArray[np.float64]

TINY_MS, TINY_MBIT = 1e-12, 1e-10
ONE_BIT_MBIT = 1e-6
EVER_MS, LEAST_GBPS = 1e9, 0.1


@compiled
def _grown(array: Any) -> Any:
    grown = np.empty((2 * len(array), array.shape[1]))
    grown[: len(array)] = array
    return grown


@compiled
def _pass_hop(inflow: Floats, backlog: Floats, gates: Any, shape: Floats, at_ms: float) -> Floats:
    """Outflow segments (M', 1 + S) of `inflow` (M, 1 + S): length [ms], then a rate per slice. `backlog` (S,) moves on.

    `gates` (W, S); `shape` is window [ms] and line rate; `at_ms` is the time within the cycle at the start.
    """
    window_ms, line = shape[0], shape[1]
    slices = len(backlog)
    row = int(at_ms / window_ms + 1e-9) % len(gates)
    to_edge = window_ms - max(at_ms - int(at_ms / window_ms + 1e-9) * window_ms, 0.0)
    out, used = np.empty((2 * len(inflow) + 16, 1 + slices)), 0
    rates = np.empty(slices)
    for m in range(len(inflow)):
        left = inflow[m, 0]
        while left > TINY_MS:
            span, free = min(left, to_edge), line
            for s in range(slices):
                rates[s] = 0.0
                if gates[row, s]:
                    rates[s] = free if backlog[s] > TINY_MBIT else min(inflow[m, 1 + s], free)
                free -= rates[s]
                fall = rates[s] - inflow[m, 1 + s]
                if backlog[s] > TINY_MBIT and fall > 0:
                    span = min(span, backlog[s] / fall)
            if used == len(out):
                out = _grown(out)
            out[used, 0] = span
            for s in range(slices):
                out[used, 1 + s] = rates[s]
                level = backlog[s] + (inflow[m, 1 + s] - rates[s]) * span
                backlog[s] = level if level > TINY_MBIT else 0.0
            used += 1
            left -= span
            to_edge -= span
            if to_edge <= TINY_MS:
                row, to_edge = (row + 1) % len(gates), window_ms
    return out[:used]


@compiled
def _delays(inflow: Floats, outflow: Floats, waiting: float, column: int, steps: int) -> Any:
    """Volume, delay moments and maximum of the bits of the first `steps` segments: the time between the curves.

    First in, first out: the bit at a level of the cumulative inflow leaves when the outflow reaches that level plus
    what was `waiting` before.
    """
    volume, mean, square, longest = 0.0, 0.0, 0.0, 0.0
    m, out_ms, out_left, skip = 0, 0.0, outflow[0, 0], waiting
    in_ms = 0.0
    for n in range(steps):
        in_left, in_rate = inflow[n, 0], inflow[n, column]
        while in_left > TINY_MS and in_rate > 0:
            while m < len(outflow) and (out_left <= TINY_MS or outflow[m, column] <= 0 or skip > TINY_MBIT):
                rate = outflow[m, column]
                use = out_left if rate * out_left <= skip or rate <= 0 else skip / rate
                skip = max(skip - rate * use, 0.0)
                out_ms += use
                out_left -= use
                if out_left <= TINY_MS:
                    m += 1
                    out_left = outflow[m, 0] if m < len(outflow) else 0.0
                elif skip <= TINY_MBIT:
                    skip = 0.0
            if m >= len(outflow):
                return volume, mean, square, longest
            out_rate = outflow[m, column]
            part = min(in_left * in_rate, out_left * out_rate)
            first = max(out_ms - in_ms, 0.0)
            in_ms += part / in_rate
            out_ms += part / out_rate
            in_left -= part / in_rate
            out_left -= part / out_rate
            last = max(out_ms - in_ms, 0.0)
            volume += part
            mean += part * (first + last) * 0.5
            square += part * (first * first + first * last + last * last) * (1 / 3)
            if part > ONE_BIT_MBIT:  # less is rounding, which may wait for the next burst
                longest = max(longest, max(first, last))
        in_ms += in_left
    return volume, mean, square, longest


class GatedHops:
    """The hops of one direction of a node: backlogs and the place in the gates' cycle carry over between periods."""

    def __init__(self, hop: TsnHop, slices: int) -> None:
        self.hop = hop
        # Aligned hops pass on at once what the first let through: their gates are open then, and the line is as fast.
        self._simulated = 1 if hop.aligned else hop.hops
        self.backlog_mbit: Floats = np.zeros((self._simulated, slices))
        self._at_us = 0.0

    def run(self, inflow_mbit: Floats, step_ms: float) -> GateDelay:
        """Pass `inflow_mbit` (T, S) [Mbit per step], spread evenly over each step; what its bits waited, (S,) each.

        Bits still waiting at the end are followed on at the period's mean rates, and at last at their slice's mean
        outflow (at least 0.1 Gb/s, so that a starved slice's wait stays a number).
        """
        steps, slices = inflow_mbit.shape
        gates = self.hop.gates
        tail = max(1, int(np.ceil(3 * gates.cycle_us / 1e3 * self._simulated / step_ms)))
        given = np.empty((steps + tail, 1 + slices))
        given[:, 0] = step_ms
        given[:steps, 1:] = inflow_mbit / step_ms
        given[steps:, 1:] = inflow_mbit.mean(axis=0) / step_ms
        waiting = self.backlog_mbit.sum(axis=0)
        flow, rest = given[:steps], given[steps:]
        for k in range(self._simulated):
            at_ms = ((self._at_us - k * self.hop.offset_us) % gates.cycle_us) / 1e3
            end_ms = (at_ms + steps * step_ms) % (gates.cycle_us / 1e3)
            shape = np.array([gates.window_us / 1e3, self.hop.line_gbps])
            flow = _pass_hop(flow, self.backlog_mbit[k], gates.open_gates, shape, at_ms)
            rest = _pass_hop(rest, self.backlog_mbit[k].copy(), gates.open_gates, shape, end_ms)
        self._at_us = (self._at_us + steps * step_ms * 1e3) % gates.cycle_us
        outflow = np.concatenate((flow, rest, _ever_after(flow, rest)))
        found = np.array([_delays(given, outflow, float(waiting[s]), 1 + s, steps) for s in range(slices)])
        volume = np.where(found[:, 0] > 0, found[:, 0], 1.0)
        mean = found[:, 1] / volume
        variance = np.maximum(found[:, 2] / volume - mean**2, 0.0)
        load = inflow_mbit.mean(axis=0) / (self.hop.line_gbps * step_ms)
        return with_blocking(self.hop, GateDelay(mean, variance, found[:, 3]), load)


def _ever_after(flow: Floats, rest: Floats) -> Floats:
    """A last segment (1, 1 + S) that serves whatever is left at the mean outflow."""
    both = np.concatenate((flow, rest))
    rates = np.maximum(both[:, 0] @ both[:, 1:] / both[:, 0].sum(), LEAST_GBPS)
    return np.concatenate(([EVER_MS], rates))[None]


def gating_bound_applies(hop: TsnHop, peak_mbps: Floats) -> NDArray[np.bool_]:
    """Whether eq (1) bounds the wait of each slice (S,) while no slice sends faster than `peak_mbps` (S,) [Mb/s].

    Eq (1) counts a slice's own closed gates and the frame under way, not the queues of slices that go first nor an open
    spell too short to empty what gathered. Steady sending at the peaks is the worst case of such traffic (less inflow
    anywhere lowers every backlog and frees the line earlier), so it is tried for some cycles.
    """
    slices = len(peak_mbps)
    closed = np.array([max(hop.gates.closed_runs_us(s), default=0.0) for s in range(slices)])
    if not np.isfinite(closed).all():
        return np.asarray(np.isfinite(closed), dtype=np.bool_)
    hops, step_ms = GatedHops(hop, slices), hop.gates.window_us / 1e3
    cycles = 4 * len(hop.gates.open_gates) * hop.hops
    waits = hops.run(np.tile(peak_mbps * step_ms / 1e3, (cycles, 1)), step_ms)
    steady = hops.backlog_mbit.sum(axis=0) <= peak_mbps * hop.gates.cycle_us * hop.hops / 1e6 + TINY_MBIT
    eq_1 = hop.hops * (closed + hop.blocking_us) / 1e3 + hop.sync_error_ns / 1e6
    return np.asarray(steady & (waits.max_ms <= eq_1 + 1e-9), dtype=np.bool_)
