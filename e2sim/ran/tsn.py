"""The TSN hop behind a slice: 802.1Qbv gates, 802.1Qbu preemption, clock error, and the bound of eq (1).

FlexE polices a slice to its slots; the hop then runs at the link's line rate, so it adds waiting at closed gates but
takes no capacity. Windows last 200 us; while a slice's gate is closed its frames gather and leave at line rate
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GateControlList", "GateDelay", "TsnHop", "default_gates", "gate_delay",
    "gating_bound_ms", "with_blocking",
]  # fmt: skip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FRAGMENT_OCTETS = 64
FRAME_OVERHEAD_OCTETS = 24
"""Preamble, mCRC and gap that a preempted fragment carries besides its 64 octets (IEEE 802.3br)."""


@dataclass(frozen=True)
class GateControlList:
    """A cycle of windows; `open_gates` (W, S) says which slices may send in which window of `window_us` [us]."""

    window_us: float
    open_gates: Bools

    def closed_runs_us(self, slice_index: int) -> list[float]:
        """Lengths [us] of the spells in one cycle during which the slice's gate stays closed, wrap-around joined."""
        return self._runs_us[slice_index]

    @cached_property
    def _runs_us(self) -> list[list[float]]:
        return [self._closed_runs_us(self.open_gates[:, index]) for index in range(self.open_gates.shape[1])]

    def _closed_runs_us(self, is_open: Bools) -> list[float]:
        if is_open.all():
            return []
        if not is_open.any():
            return [float("inf")]
        turned = np.roll(is_open, -int(np.argmax(is_open)))
        edges = np.flatnonzero(np.diff(np.concatenate(([1], turned.astype(np.int8), [1]))))
        return [float(stop - start) * self.window_us for start, stop in zip(edges[::2], edges[1::2], strict=True)]

    @property
    def cycle_us(self) -> float:
        """Length of the whole cycle [us]."""
        return self.window_us * len(self.open_gates)


def default_gates() -> GateControlList:
    """The cycle of five 200 us windows that a node has when the scenario says nothing else: control, protection,
    monitoring.
    """
    rows = ((1, 1, 0), (1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0))
    return GateControlList(200.0, np.array(rows, dtype=np.bool_))


@dataclass(frozen=True, eq=False)
class TsnHop:
    """`hops` equal bridges: their gates, line rate [Gb/s], preemption, and the clock error between them [ns]."""

    gates: GateControlList
    line_gbps: float = 100.0
    hops: int = 2
    preemption: bool = True
    sync_error_ns: float = 500.0
    largest_frame_octets: int = 1_522
    offset_us: float = 0.0
    """How much later each bridge's cycle starts than that of the one before [us]; 0 is aligned."""

    @property
    def aligned(self) -> bool:
        """True when all bridges open and close together, so that only the first makes traffic wait."""
        return self.hops == 1 or self.offset_us % self.gates.cycle_us == 0

    @property
    def blocking_us(self) -> float:
        """Tau of eq (1) [us]: what a frame waits for one that is being sent: a fragment, or a whole frame."""
        octets = FRAGMENT_OCTETS + FRAME_OVERHEAD_OCTETS if self.preemption else self.largest_frame_octets
        return octets * 8 / (self.line_gbps * 1e3)


@dataclass(frozen=True)
class GateDelay:
    """Mean, variance and maximum of the waiting over all hops, each (...,) [ms], [ms^2], [ms]."""

    mean_ms: Floats
    variance_ms2: Floats
    max_ms: Floats


def gate_delay(hop: TsnHop, rate_mbps: Floats) -> GateDelay:
    """Waiting at the gates for slices that send evenly at `rate_mbps` (..., S) [Mb/s], each as if alone; closed form.

    Source: fluid on/off server. Arrivals of a closed spell T wait T down to 0 and empty within T / (1 - rho), rho the
    slice's share of the line rate, so per cycle Tc the mean is sum T^2 / (2 Tc (1 - rho)), the second moment
    sum T^3 / (3 Tc (1 - rho)) and the maximum the longest T: the L/C of eq (1). Hops that are not aligned count as
    independent. `e2sim/ran/gating.py` measures the same with the slices together.
    """
    load = np.clip(rate_mbps / (hop.line_gbps * 1e3), 0.0, 0.95)
    mean, second = np.zeros_like(load), np.zeros_like(load)
    longest = np.zeros(load.shape[-1])
    cycle_ms = hop.gates.cycle_us / 1e3
    for index in range(load.shape[-1]):
        for run_us in hop.gates.closed_runs_us(index):
            run_ms = run_us / 1e3
            mean[..., index] += run_ms**2 / (2 * cycle_ms * (1 - load[..., index]))
            second[..., index] += run_ms**3 / (3 * cycle_ms * (1 - load[..., index]))
            longest[index] = max(longest[index], run_ms)
    waits = 1 if hop.aligned else hop.hops
    variance = np.maximum(second - mean**2, 0.0)
    largest = np.broadcast_to(waits * longest, load.shape)
    return with_blocking(hop, GateDelay(np.minimum(waits * mean, largest), waits * variance, largest), load)


def with_blocking(hop: TsnHop, waits: GateDelay, load: Floats) -> GateDelay:
    """`waits` with what frames under way add at each hop, for slices that load the line by `load` (..., S) [1].

    A frame waits for the rest of a lower slice's frame, half of it on average, as often as one is being sent; the last
    slice for none. The clock error counts in the maximum.
    """
    lower = np.flip(np.cumsum(np.flip(load, axis=-1), axis=-1), axis=-1) - load
    blocking_ms = hop.blocking_us / 1e3
    mean = waits.mean_ms + hop.hops * blocking_ms / 2 * np.clip(lower, 0.0, 1.0)
    worst = hop.hops * blocking_ms + hop.sync_error_ns / 1e6
    return GateDelay(mean, waits.variance_ms2, waits.max_ms + worst)


def gating_bound_ms(hop: TsnHop, blockers: Sequence[int]) -> Floats:
    """Eq (1) per slice (S,) [ms]: sum over hops of (L / C + sum of tau) + Delta_sync.

    It bounds the wait where :func:`e2sim.ran.gating.gating_bound_applies`.

    L / C is the slice's longest closed spell (L the bits that the line passes in it, C the line rate); `blockers` (S,)
    counts the frames that may block one of the slice's at each hop.
    """
    longest = [max(hop.gates.closed_runs_us(index), default=0.0) for index in range(len(blockers))]
    per_hop_us = np.array(longest) + np.array(blockers, dtype=np.float64) * hop.blocking_us
    return np.asarray(hop.hops * per_hop_us / 1e3 + hop.sync_error_ns / 1e6)
