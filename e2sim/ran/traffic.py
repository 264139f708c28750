"""The traffic that the services of a node's slices offer, burst by burst.

A service's terminals send bursts of `burst_kbit`, Poisson in time around a mean that follows the pattern of its row:
reports in step, answers to polls, the quarter-hour push of meters, messages about faults, congestion, recordings. Draws
never depend on slots or on delivered traffic, so a run with and a run without apps see the same arrivals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.catalogue import CATALOGUE

__all__ = ["OfferedTraffic", "RateAt", "TrafficEvent"]

Floats = NDArray[np.float64]
RateAt = Callable[[Floats], Floats]
"""Times (T,) [s] -> downlink and uplink rates (T, 2) [Mb/s]."""

PUSH_PERIOD_S, PUSH_LENGTH_S = 900.0, 60.0
PUSH_FACTOR = 1.6
"""Meters push at every quarter of an hour; between pushes they send less, so that the mean rate is the catalogue's."""
WANDER, WANDER_CORRELATION_S = 0.06, 20.0
"""Spread (log-normal) and correlation time [s] of a slice's rate around its mean; assumed."""
QUIET_FACTOR = (PUSH_PERIOD_S - PUSH_FACTOR * PUSH_LENGTH_S) / (PUSH_PERIOD_S - PUSH_LENGTH_S)
FAULT_BURST_S = 0.05
"""Time over which terminals that a fault wakes send their first messages [s]; assumed."""


@dataclass(frozen=True)
class TrafficEvent:
    """Something that changes the traffic of slice `slice_index` during [start_s, end_s)."""

    start_s: float
    end_s: float
    slice_index: int
    factor: float = 1.0
    """Rates are multiplied by this."""
    rise_s: float = 0.0
    """The factor grows and falls over this time [s]."""
    services: tuple[str, ...] = ()
    """The services that it changes; empty means all of the slice."""
    in_step: float = 0.0
    """Share of a periodic service's terminals that report at the same instants (wide-area synchronisation) [1]."""
    spread_ms: float = 2.0
    """Time over which reports in step arrive [ms]."""

    def factor_at(self, time_s: float) -> float:
        """Factor in force at `time_s` [s]."""
        if not self.start_s <= time_s < self.end_s:
            return 1.0
        inside_s = min(time_s - self.start_s, self.end_s - time_s)
        share = 1.0 if self.rise_s <= 0 else min(inside_s / self.rise_s, 1.0)
        return 1.0 + (self.factor - 1.0) * share


class OfferedTraffic:
    """Offered traffic of one node's S slices, downlink and uplink."""

    def __init__(
        self, terminals: Sequence[Mapping[str, int]], generator: np.random.Generator, *,
        events: Sequence[TrafficEvent] = (), fault_spans_s: Sequence[tuple[float, float]] = (),
        recorded: Mapping[int, RateAt] | None = None,
    ) -> None:  # fmt: skip
        """`terminals` gives terminals per service and slice; `recorded` replaces a slice's mean rate."""
        rows = [(index, CATALOGUE[name], number) for index, counts in enumerate(terminals)
                for name, number in counts.items()]  # fmt: skip
        self._slices = len(terminals)
        self._index = np.array([index for index, _, _ in rows], dtype=np.intp)
        self._services = tuple(service for _, service, _ in rows)
        self._rate = np.array([[s.dl_mbps * n for _, s, n in rows], [s.ul_mbps * n for _, s, n in rows]])
        self._quiet = np.array([s.quiet_share for s in self._services])
        self._fault = np.array([s.fault_share for s in self._services])
        self._burst_mbit = np.array([s.burst_kbit for s in self._services]) / 1e3
        self._octets = np.array([float(s.packet_octets) for s in self._services])
        self._pushes = np.array([s.pattern == "push" for s in self._services])
        self._woken_mbit = np.array([s.fault_burst_kbit * (s.fault_share - s.quiet_share) * n / 1e3
                                     for _, s, n in rows])  # fmt: skip
        self._generator = generator
        self._events = tuple((event, self._touched(event)) for event in events)
        self._faults = tuple(fault_spans_s)
        self._recorded = tuple((rate_at, self._index == index) for index, rate_at in (recorded or {}).items())
        self._wander = np.full(self._slices, WANDER**2 / 2)  # factor 1

    def wander(self, dt_s: float) -> None:
        """Let the rates wander for `dt_s` [s]: one draw per slice and step, a mean-reverting walk."""
        keep = np.exp(-dt_s / WANDER_CORRELATION_S)
        draw = self._generator.standard_normal(self._slices)
        self._wander = keep * self._wander + WANDER * np.sqrt(1 - keep**2) * draw

    def mean_mbps(self, time_s: float) -> Floats:
        """Mean offered rate (2, S) [Mb/s], downlink then uplink, at `time_s` [s]; what comes in step is averaged."""
        return self._by_slice(self._service_mbps(time_s))

    def burst_mbit(self, time_s: float) -> Floats:
        """Volume-weighted mean burst (2, S) [Mbit]: what a bit waits for on average is half of it."""
        rates = self._service_mbps(time_s)
        return np.asarray(self._by_slice(rates * self._burst_mbit) / np.maximum(self._by_slice(rates), 1e-12))

    def packet_octets(self, time_s: float) -> Floats:
        """Volume per packet (2, S) [octets]: the harmonic mean by volume, so that packets are counted right."""
        rates = np.maximum(self._service_mbps(time_s), 1e-12)
        return np.asarray(self._by_slice(rates) / self._by_slice(rates / self._octets))

    def arrivals_mbit(self, time_s: float, steps: int, step_ms: float) -> Floats:
        """Offered volume (steps, 2, S) [Mbit] of `steps` inner steps from `time_s` [s] on."""
        mean = self._service_mbps(time_s, unit_recordings=True) * (step_ms / 1e3)
        times_s = time_s + np.arange(steps, dtype=np.float64) * (step_ms / 1e3)
        means: Floats = mean * self._profile(times_s, time_s)[:, None, :]
        for rate_at, mine in self._recorded:
            means[:, :, mine] *= rate_at(times_s)[:, :, None]
        means += self._fault_bursts(times_s, step_ms)[:, None, :]
        volume = self._generator.poisson(means / self._burst_mbit) * self._burst_mbit
        out = np.zeros((steps, 2, self._slices))
        for column, index in enumerate(self._index):
            out[:, :, index] += volume[:, :, column]
        return out

    def _touched(self, event: TrafficEvent) -> NDArray[np.bool_]:
        named = np.array([not event.services or s.name in event.services for s in self._services], dtype=np.bool_)
        return np.asarray((self._index == event.slice_index) & named)

    def _service_mbps(self, time_s: float, *, unit_recordings: bool = False) -> Floats:
        """Mean rates (2, R) of the rows; with `unit_recordings` a recorded slice's sum to 1, to be scaled later."""
        in_fault = any(start <= time_s < end for start, end in self._faults)
        active = self._fault if in_fault else self._quiet
        push = PUSH_FACTOR if time_s % PUSH_PERIOD_S < PUSH_LENGTH_S else QUIET_FACTOR
        rates = self._rate * active * np.where(self._pushes, push, 1.0)
        for rate_at, mine in self._recorded:
            wanted = np.ones(2) if unit_recordings else rate_at(np.array([time_s]))[0]
            total = rates[:, mine].sum(axis=1)
            rates[:, mine] *= np.divide(wanted, total, out=np.zeros(2), where=total > 0)[:, None]
        for event, touched in self._events:
            rates[:, touched] *= event.factor_at(time_s)
        return np.asarray(rates * np.exp(self._wander - WANDER**2 / 2)[self._index])

    def _profile(self, times_s: Floats, time_s: float) -> Floats:
        """Rate over mean rate (T, R) within the reporting and polling periods of the services."""
        share, spread_ms = np.zeros(len(self._services)), np.ones(len(self._services))
        for column, service in enumerate(self._services):
            if service.pattern == "polling":
                share[column], spread_ms[column] = 1.0, service.spread_ms
        periodic = np.array([service.pattern == "periodic" for service in self._services])
        for event, touched in self._events:
            if event.in_step > 0 and event.start_s <= time_s < event.end_s:
                share[touched & periodic], spread_ms[touched & periodic] = event.in_step, event.spread_ms
        profile = np.ones((len(times_s), len(self._services)))
        for column in np.flatnonzero(share).tolist():
            period_ms = self._services[column].period_ms
            width_ms = min(spread_ms[column], period_ms)
            # Counted in whole microseconds: times since the epoch have no finer digits left.
            phase_ms = np.rint(times_s * 1e6) % round(period_ms * 1e3) / 1e3
            peak = np.where(phase_ms < width_ms - 1e-3, period_ms / width_ms, 0.0)
            profile[:, column] = 1.0 + share[column] * (peak - 1.0)
        return profile

    def _fault_bursts(self, times_s: Floats, step_ms: float) -> Floats:
        """Mean volume (T, R) [Mbit] per step of the first messages of terminals that faults wake."""
        waking = np.zeros(len(times_s))
        for start_s, _ in self._faults:
            waking += (start_s - 1e-6 <= times_s) & (times_s < start_s + FAULT_BURST_S - 1e-6)
        return np.asarray(waking[:, None] * self._woken_mbit * (step_ms / 1e3 / FAULT_BURST_S))

    def _by_slice(self, values: Floats) -> Floats:
        out = np.zeros((2, self._slices))
        for column, index in enumerate(self._index):
            out[:, index] += values[:, column]
        return out
