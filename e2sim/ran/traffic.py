"""The service catalogue and the traffic that it implies per slice.

Arrivals are batches: a service's terminals send bursts of `burst_kbit`, Poisson in time, around a mean that follows the
quarter-hour push of the meters, fault events and congestion. Draws never depend on slots or on delivered traffic, so a
run with and a run without apps see the same arrivals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATALOGUE", "OfferedTraffic", "Service", "TrafficEvent"]

Floats = NDArray[np.float64]

PUSH_PERIOD_S, PUSH_LENGTH_S = 900.0, 60.0
PUSH_FACTOR = 1.6
"""Meters push at every quarter of an hour; between pushes they send less, so that the mean rate is the catalogue's."""
WANDER, WANDER_CORRELATION_S = 0.06, 20.0
"""Spread (log-normal) and correlation time [s] of a slice's rate around its mean; assumed."""
QUIET_FACTOR = (PUSH_PERIOD_S - PUSH_FACTOR * PUSH_LENGTH_S) / (PUSH_PERIOD_S - PUSH_LENGTH_S)


@dataclass(frozen=True)
class Service:
    """One row of the catalogue. Rates are per active terminal; shares say how many terminals are active."""

    name: str
    role: str
    """Slice that carries it: control, protection or monitoring."""
    latency_ms: float
    """End-to-end latency asked for."""
    dl_mbps: float
    ul_mbps: float
    burst_kbit: float
    """Size of one burst on the transport link, all terminals of a concentrator together."""
    quiet_share: float
    """Share of terminals that are active in normal operation."""
    fault_share: float
    """Share of terminals that are active while a feeder fault is handled."""
    source: str
    doubt: str


_PAPER = "3GPP figures, distribution-automation paper, Table 1"
_BURST = "burst size and active shares are assumed"

CATALOGUE: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service("primary_frequency_control", "control", 50, 0.064, 0.064, 400, 1, 1, _PAPER,
                f"no rate given: 64 kb/s assumed; {_BURST}"),
        Service("distributed_voltage_control", "control", 100, 0.1, 0.1, 400, 1, 1, _PAPER,
                f"no rate given: 100 kb/s assumed; {_BURST}"),
        Service("precise_load_control", "control", 50, 0.028, 0.028, 400, 1, 1, _PAPER, _BURST),
        Service("distributed_energy_storage", "control", 10, 0.1, 0.1, 400, 1, 1, _PAPER,
                "row torn in our copy: about 100 kb/s downlink, uplink taken equal, its latency 10 ms to 1 s; "
                + _BURST),
        Service("der_microgrids", "control", 3, 5.4, 5.4, 1_200, 1, 1, _PAPER,
                f"one rate given: taken for both directions; {_BURST}"),
        Service("differential_protection", "protection", 5, 2.5, 2.5, 800, 1, 1, _PAPER,
                f"one rate given: taken for both directions; {_BURST}"),
        Service("fisr", "protection", 5, 10, 10, 1_200, 0.15, 0.85, _PAPER, _BURST),
        Service("dg_fault_management", "protection", 30, 1, 1, 800, 1, 1, _PAPER, _BURST),
        Service("advanced_metering", "monitoring", 100, 1, 2, 2_000, 1, 1, _PAPER, _BURST),
        Service("fault_location", "monitoring", 140, 100, 100, 4_000, 0.03, 0.05, _PAPER,
                f"one rate given: taken for both directions; {_BURST}"),
    )
}  # fmt: skip
"""Service name -> row: DESIGN section 4's catalogue, with source and doubt."""


@dataclass(frozen=True)
class TrafficEvent:
    """Something that multiplies the traffic of slice `slice_index` by `factor` during [start_s, end_s)."""

    start_s: float
    end_s: float
    slice_index: int
    factor: float
    rise_s: float = 0.0
    """The factor grows and falls over this time [s]."""

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
        recorded: Mapping[int, Callable[[float], tuple[float, float]]] | None = None,
    ) -> None:  # fmt: skip
        """`terminals` gives terminals per service and slice; `recorded` replaces a slice's mean rate (dl, ul) [Mb/s] by
        that of a recording at a time.
        """
        rows = [(index, CATALOGUE[name], number) for index, counts in enumerate(terminals)
                for name, number in counts.items()]  # fmt: skip
        self._slices = len(terminals)
        self._index = np.array([index for index, _, _ in rows], dtype=np.intp)
        self._services = tuple(service for _, service, _ in rows)
        self._rate = np.array([[s.dl_mbps * n for _, s, n in rows], [s.ul_mbps * n for _, s, n in rows]])
        self._quiet = np.array([s.quiet_share for s in self._services])
        self._fault = np.array([s.fault_share for s in self._services])
        self._burst_mbit = np.array([s.burst_kbit for s in self._services]) / 1e3
        self._metering = np.array([s.name == "advanced_metering" for s in self._services])
        self._generator = generator
        self._events = tuple(events)
        self._faults = tuple(fault_spans_s)
        self._recorded = dict(recorded or {})
        self._wander = np.full(self._slices, WANDER**2 / 2)  # factor 1

    def wander(self, dt_s: float) -> None:
        """Let the rates wander for `dt_s` [s]: one draw per slice and step, a mean-reverting walk."""
        keep = np.exp(-dt_s / WANDER_CORRELATION_S)
        draw = self._generator.standard_normal(self._slices)
        self._wander = keep * self._wander + WANDER * np.sqrt(1 - keep**2) * draw

    def mean_mbps(self, time_s: float) -> Floats:
        """Mean offered rate (2, S) [Mb/s], downlink then uplink, at `time_s` [s]."""
        return self._by_slice(self._service_mbps(time_s))

    def burst_mbit(self, time_s: float) -> Floats:
        """Volume-weighted mean burst (2, S) [Mbit]: what a bit waits for on average is half of it."""
        rates = self._service_mbps(time_s)
        total = self._by_slice(rates)
        return np.asarray(self._by_slice(rates * self._burst_mbit) / np.maximum(total, 1e-12))

    def arrivals_mbit(self, time_s: float, steps: int, step_ms: float) -> Floats:
        """Offered volume (steps, 2, S) [Mbit] of `steps` inner steps from `time_s` [s] on."""
        per_step = self._service_mbps(time_s) * (step_ms / 1e3)
        bursts = self._generator.poisson(per_step / self._burst_mbit, size=(steps, *per_step.shape))
        volume = bursts * self._burst_mbit
        out = np.zeros((steps, 2, self._slices))
        for column, index in enumerate(self._index):
            out[:, :, index] += volume[:, :, column]
        return out

    def _service_mbps(self, time_s: float) -> Floats:
        in_fault = any(start <= time_s < end for start, end in self._faults)
        active = self._fault if in_fault else self._quiet
        push = PUSH_FACTOR if time_s % PUSH_PERIOD_S < PUSH_LENGTH_S else QUIET_FACTOR
        rates = self._rate * active * np.where(self._metering, push, 1.0)
        for index, rate_at in self._recorded.items():
            mine = self._index == index
            wanted = np.array(rate_at(time_s))
            present = rates[:, mine].sum(axis=1)
            scale = np.divide(wanted, present, out=np.zeros(2), where=present > 0)
            rates[:, mine] *= scale[:, None]
        for event in self._events:
            rates[:, self._index == event.slice_index] *= event.factor_at(time_s)
        return np.asarray(rates * np.exp(self._wander - WANDER**2 / 2)[self._index])

    def _by_slice(self, values: Floats) -> Floats:
        out = np.zeros((2, self._slices))
        for column, index in enumerate(self._index):
            out[:, index] += values[:, column]
        return out
