"""Analytic queue of one slice on its FlexE slots: delay, jitter and backlog over one period, for any number of splits.

A fluid queue (arrivals at a constant rate, served at the slots' capacity, finite buffer) carries congestion; the
waiting time that bursts cause below saturation is added to it (M/D/1 with batches: Pollaczek-Khinchine), bounded by
what can pile up within one period. Written apart from the simulator's queues; a component test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.kernels import NO_SLOT_MBPS, SLOT_MBPS

__all__ = [
    "ALL_SLOTS", "CALENDAR_SLOTS", "CONTROL", "MONITORING", "NEW_ALARM", "NO_ALARM", "OLD_ALARM", "PROTECTION",
    "SLICES", "SLOT_MBPS", "SLOT_STEP", "S_NSSAI", "STATIC_SLOTS", "LinkModel", "Prediction", "capacity_mbps",
    "predict", "predict_table",
]  # fmt: skip

Floats = NDArray[np.float64]

SLICES = ("control", "protection", "monitoring")
"""Order of the last axis of every array in this app."""
CONTROL, PROTECTION, MONITORING = 0, 1, 2
S_NSSAI = ("1-000001", "1-000002", "1-000003")
CALENDAR_SLOTS = 20
SLOT_STEP = np.array([1, 2, 1])
"""FlexE client granularity [slot]: 5G, 10G, 5G."""
STATIC_SLOTS = np.array([5, 10, 5])
"""The static 25/50/25 split [slot]."""
NO_ALARM, OLD_ALARM, NEW_ALARM = 0.0, 1.0, 2.0
"""What is known of a node's fault alarms: a new one was raised in the newest period or after it, so that the loads do
not show in full what it announces."""


def _three(value: float) -> Floats:
    return np.full(3, value)


@dataclass(frozen=True)
class LinkModel:
    """What the analytic queue assumes of each slice (..., 3); :mod:`calibration` corrects it by what is measured."""

    base_delay_ms: Floats = field(default_factory=lambda: np.array([0.4, 0.2, 0.4]))
    """Delay without queueing [ms]: TSN gate wait of eq (1), transmission, processing."""
    burst_mbit: Floats = field(default_factory=lambda: np.array([1.2, 1.2, 3.6]))
    """Size of a burst that arrives at once [Mbit]."""
    buffer_mbit: Floats = field(default_factory=lambda: _three(2_500.0))
    """Backlog at which the queue drops [Mbit]."""
    in_step: Floats = field(default_factory=lambda: _three(1.0))
    """Share of the bits that come in bursts [1], 0.1..1. At 1 bursts come at random instants and wait for each other;
    at 0.9 and below they come in turn, as of terminals that report in step, and the other bits wait for nothing."""

    def per_slot(self) -> LinkModel:
        """The same with an axis for the slot count before the slices."""
        return LinkModel(
            self.base_delay_ms[..., None, :], self.burst_mbit[..., None, :], self.buffer_mbit[..., None, :],
            self.in_step[..., None, :],
        )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """Delay and jitter over the period [ms], backlog at its end, volume dropped [Mbit]; all of one shape (..., 3)."""

    delay_ms: Floats
    jitter_ms: Floats
    queue_mbit: Floats
    lost_mbit: Floats


def capacity_mbps(slots: NDArray[np.int64]) -> Floats:
    """Rate [Mb/s] of a slice on its slots; next to nothing on none."""
    return np.asarray(np.maximum(slots * SLOT_MBPS, NO_SLOT_MBPS))


def predict(
    offered_mbps: Floats, queue_mbit: Floats, slots: NDArray[np.int64], period_s: Floats | float, link: LinkModel
) -> Prediction:
    """What a period of `period_s` [s] does with `offered_mbps` (..., 3) [Mb/s], `queue_mbit` (..., 3) at its start.

    All broadcast against each other. Delay is the mean and jitter the standard deviation over the arrivals.
    """
    return Prediction(
        *kernels.predicted(
            offered_mbps, queue_mbit, slots, period_s, link.base_delay_ms, link.burst_mbit, link.buffer_mbit,
            link.in_step,
        )
    )  # fmt: skip


ALL_SLOTS = np.arange(CALENDAR_SLOTS + 1)[:, None]
"""(21, 1): every slot count, shaped for tables (..., 21, 3)."""


def predict_table(offered_mbps: Floats, queue_mbit: Floats, period_s: Floats | float, link: LinkModel) -> Prediction:
    """Predictions (..., 21, 3) for 0..20 slots per slice: all that a separable objective needs for every split.

    `link` is one for all, or has the leading axes (...) of the loads.
    """
    period = np.asarray(period_s, dtype=np.float64)[..., None, None]
    return predict(offered_mbps[..., None, :], queue_mbit[..., None, :], ALL_SLOTS, period, link.per_slot())
