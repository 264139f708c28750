"""Analytic queue of one slice on its FlexE slots: delay, jitter and backlog over one period, for any number of splits.

A fluid queue (arrivals at a constant rate, served at the slots' capacity, finite buffer) carries congestion; the
waiting time that bursts cause below saturation is added to it (M/D/1 with batches: Pollaczek-Khinchine), bounded by
what can pile up within one period. Written apart from the simulator's queues; a component test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALL_SLOTS", "CALENDAR_SLOTS", "CONTROL", "MONITORING", "PROTECTION", "SLICES", "SLOT_MBPS", "SLOT_STEP",
    "S_NSSAI", "STATIC_SLOTS", "LinkModel", "Prediction", "capacity_mbps", "predict", "predict_table",
]  # fmt: skip

Floats = NDArray[np.float64]

SLICES = ("control", "protection", "monitoring")
"""Order of the last axis of every array in this app."""
CONTROL, PROTECTION, MONITORING = 0, 1, 2
S_NSSAI = ("1-000001", "1-000002", "1-000003")
CALENDAR_SLOTS = 20
SLOT_MBPS = 5_000.0
SLOT_STEP = np.array([1, 2, 1])
"""FlexE client granularity [slot]: 5G, 10G, 5G."""
STATIC_SLOTS = np.array([5, 10, 5])
"""The static 25/50/25 split [slot]."""

_NO_SLOT_MBPS = 1.0  # a slice without slots drains at next to nothing, so that every formula stays finite
_SATURATED = 0.999


def _three(value: float) -> Floats:
    return np.full(3, value)


@dataclass(frozen=True)
class LinkModel:
    """What the analytic queue assumes of each slice (3,); measured delays and backlogs correct it period by period."""

    base_delay_ms: Floats = field(default_factory=lambda: np.array([0.4, 0.2, 0.4]))
    """Delay without queueing [ms]: TSN gate wait of eq (1), transmission, processing."""
    burst_mbit: Floats = field(default_factory=lambda: np.array([1.2, 1.2, 3.6]))
    """Size of a burst that arrives at once [Mbit]."""
    buffer_mbit: Floats = field(default_factory=lambda: _three(2_500.0))
    """Backlog at which the queue drops [Mbit]."""


@dataclass(frozen=True)
class Prediction:
    """Delay and jitter over the period [ms] and backlog at its end [Mbit]; all of one shape (..., 3)."""

    delay_ms: Floats
    jitter_ms: Floats
    queue_mbit: Floats


def capacity_mbps(slots: NDArray[np.int64]) -> Floats:
    """Rate [Mb/s] of a slice on its slots; next to nothing on none."""
    return np.asarray(np.maximum(slots * SLOT_MBPS, _NO_SLOT_MBPS))


def predict(
    offered_mbps: Floats, queue_mbit: Floats, slots: NDArray[np.int64], period_s: Floats | float, link: LinkModel
) -> Prediction:
    """What a period of `period_s` [s] does with `offered_mbps` (..., 3) [Mb/s], `queue_mbit` (..., 3) at its start.

    `slots` (..., 3) broadcasts against them. Delay is the mean and jitter the standard deviation over the arrivals.
    """
    capacity = capacity_mbps(slots)
    start = queue_mbit
    rate = offered_mbps - capacity
    # A backlog that was measured fits the buffer, whatever the model says of it.
    end = np.minimum(np.maximum(start + rate * period_s, 0.0), np.maximum(link.buffer_mbit, start))
    # The backlog moves from start to end in a straight line for this share of the period, then stays there.
    change = np.abs(rate) * period_s
    share = np.minimum(1.0, np.abs(end - start) / np.maximum(change, 1e-9))
    mean = share * (start + end) / 2 + (1 - share) * end
    square = share * (start * start + start * end + end * end) / 3 + (1 - share) * end * end
    waiting = _burst_backlog(offered_mbps, capacity, mean, period_s, link)
    own = link.burst_mbit / 2  # a bit waits on average for half of its own burst
    to_ms = 1e3 / capacity
    variance = np.maximum(square - mean * mean, 0.0) + waiting * waiting + own * own / 3
    return Prediction(link.base_delay_ms + (mean + waiting + own) * to_ms, np.sqrt(variance) * to_ms, end)


def _burst_backlog(
    offered_mbps: Floats, capacity: Floats, fluid_mbit: Floats, period_s: Floats | float, link: LinkModel
) -> Floats:
    """Mean backlog [Mbit] that bursts add to the fluid one of `fluid_mbit`.

    Pollaczek-Khinchine below saturation, at most half a random walk's spread over the period (a reflected one's mean is
    0.53 of it), and less while the fluid backlog keeps the queue from running empty.
    """
    rho = np.minimum(offered_mbps / capacity, _SATURATED)
    stationary = link.burst_mbit * rho / (2 * (1 - rho))
    limit = 0.5 * np.sqrt(np.maximum(offered_mbps, 1e-3) * link.burst_mbit * period_s)
    return np.asarray(np.minimum(stationary, limit) * np.exp(-fluid_mbit / limit))


ALL_SLOTS = np.arange(CALENDAR_SLOTS + 1)[:, None]
"""(21, 1): every slot count, shaped for tables (..., 21, 3)."""


def predict_table(offered_mbps: Floats, queue_mbit: Floats, period_s: Floats | float, link: LinkModel) -> Prediction:
    """Predictions (..., 21, 3) for 0..20 slots per slice: all that a separable objective needs for every split."""
    period = np.asarray(period_s, dtype=np.float64)[..., None, None]
    return predict(offered_mbps[..., None, :], queue_mbit[..., None, :], ALL_SLOTS, period, link)
