"""What each slice's load may be next: a few scenarios with their probabilities, from past loads and the alarm alone.

A small network gives quantiles of the coming period's load and of the mean of the two after it, relative to the last
load; equal ranks of both make one scenario (a load that jumped tends to stay). Eq (3) is separable over slices, so the
expected cost of a split needs each slice's own distribution and nothing of how slices move together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, SLOT_MBPS, LinkModel
from xapps.slice_bandwidth.objective import Limits
from xapps.slice_bandwidth.state import HISTORY

__all__ = [
    "COLUMNS", "HORIZONS", "LEVELS", "MASSES", "OUTPUTS", "RATIO_LIMIT", "Forecaster", "Outlook", "blended",
    "forecast_rows", "foresee", "persistence", "scenarios",
]  # fmt: skip

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

MASSES = np.array([0.10, 0.20, 0.30, 0.20, 0.12, 0.06, 0.02])
"""Probability of each scenario; finer where loads are high, because that is where limits break."""
LEVELS = np.cumsum(MASSES) - MASSES / 2
"""Quantile level of each scenario: the middle of its probability."""
HORIZONS = 2
"""The coming period, and the mean of the two after it."""
OUTPUTS = HORIZONS * len(MASSES)
RECENT = 32
"""Periods that the network sees one by one; of all `HISTORY` it sees figures."""
COLUMNS = RECENT + 13 + kernels.RECURRENCE
"""Columns of a forecaster's row, see :func:`forecast_rows`."""
LENGTHS = np.array([1.0, 2.0, 8.0])
"""Periods in each stage of an outlook: the coming one, the two after it, and those over which a backlog is followed."""
BLEND = (0.5, 0.25, 0.25)
"""Weight of the coming period, of the two after it and of those after these; among the best of six on training seeds,
which differ by 0.3 %."""
RATIO_LIMIT = 4.0
"""Largest |log| of a load against the last one that the network is shown."""


class Forecaster(Protocol):
    """Quantiles of log(load / last load)."""

    def __call__(self, rows: Rows, /) -> Rows:
        """(R, OUTPUTS) from rows (R, COLUMNS): the coming period's scenarios, then those of the two after it."""
        ...


def persistence(rows: Rows) -> Rows:
    """The forecaster that expects the last load again, for sure."""
    return np.zeros((len(rows), OUTPUTS), dtype=np.float32)


def forecast_rows(offered_mbps: Floats, period_s: Floats, alarm: NDArray[np.bool_]) -> Rows:
    """Rows (..., 3, COLUMNS) from offered_mbps (..., HISTORY, 3) [Mb/s], period_s and alarm (...).

    Columns: log of each of the newest RECENT loads against the last (RECENT - 1); mean, spread and largest of those;
    log10 of the last load in slots; alarm; log10 of the period in 0.1 s; slice (3). Of all HISTORY periods: mean, least
    and largest; share of periods that rise by a fifth or more, largest rise; how far the load is from repeating itself
    (0 to 2), three steps of what followed the last time, and how the last time differs from now.
    """
    logs = np.log(np.maximum(np.swapaxes(offered_mbps, -1, -2), 1.0))
    known = RECENT - 1
    steps = logs[..., 1:] - logs[..., :-1]
    whole = np.minimum(np.maximum(logs - logs[..., -1:], -RATIO_LIMIT), RATIO_LIMIT)
    past, recent = whole[..., -RECENT:-1], steps[..., -known:]
    out = np.empty((*logs.shape[:-1], COLUMNS), dtype=np.float32)
    out[..., :known] = past
    out[..., known] = past.sum(axis=-1) / known
    out[..., known + 1] = np.minimum(np.sqrt((recent * recent).sum(axis=-1) / known), RATIO_LIMIT) * 5
    out[..., known + 2] = past.max(axis=-1)
    out[..., known + 3] = logs[..., -1] / np.log(10.0) - np.log10(SLOT_MBPS)
    out[..., known + 4] = np.asarray(alarm)[..., None]
    out[..., known + 5] = np.log10(np.asarray(period_s) / 0.1)[..., None]
    out[..., known + 6 : known + 9] = SLICE_COLUMNS
    out[..., known + 9] = whole.sum(axis=-1) / HISTORY
    out[..., known + 10] = whole.min(axis=-1)
    out[..., known + 11] = whole.max(axis=-1)
    out[..., known + 12] = (steps > RISE).sum(axis=-1) * (10.0 / HISTORY)
    out[..., known + 13] = np.minimum(steps.max(axis=-1), RATIO_LIMIT)
    out[..., known + 14 :] = np.minimum(np.maximum(kernels.recurrence_of(logs, SHAPE), -RATIO_LIMIT), RATIO_LIMIT)
    return out


RISE = 0.2
"""Logarithm of a load against the one before it that counts as a rise."""
SHAPE = np.zeros(kernels.RECURRENCE)
SLICE_COLUMNS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def scenarios(
    forecaster: Forecaster, offered_mbps: Floats, period_s: Floats, alarm: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Loads (S, ..., 3) [Mb/s] of the coming period and of the two after it, one per scenario, rising with S."""
    rows = forecast_rows(offered_mbps, period_s, alarm)
    ratios = np.asarray(forecaster(rows.reshape(-1, COLUMNS)), dtype=np.float64)
    ratios = np.exp(np.minimum(np.maximum(ratios, -RATIO_LIMIT), RATIO_LIMIT))
    ratios = ratios.reshape(*rows.shape[:-1], HORIZONS, len(MASSES))
    # Quantiles may cross where the network is unsure: sorting never makes a quantile forecast worse.
    loads = np.moveaxis(np.sort(ratios, axis=-1), -1, 0) * offered_mbps[..., -1, :][..., None]
    return loads[..., 0], loads[..., 1]


@dataclass(frozen=True)
class Outlook:
    """What each scenario makes of each slot count and slice, (S, ..., 21, 3).

    Priced cost of the coming period, per period of the two after it, and per period of the eight after those
    (where a backlog either drains or rots), and the backlog [Mbit] that the coming period leaves.
    """

    stages: Floats
    """(3, S, ..., 21, 3): the three costs."""
    queue_mbit: Floats

    @property
    def cost(self) -> Floats:
        """Of the coming period (S, ..., 21, 3)."""
        return np.asarray(self.stages[0])

    def expected(self) -> tuple[Floats, Floats, Floats]:
        """Expected cost (..., 21, 3) per period: the coming one, the two after it, those after these."""
        stages, count, *rest = self.stages.shape
        now, later, tail = (MASSES @ self.stages.reshape(stages, count, -1)).reshape(stages, *rest)
        return now, later, tail


def blended(periods: tuple[Floats, Floats, Floats]) -> Floats:
    """One cost of the three of :meth:`Outlook.expected`, weighted by `BLEND`."""
    return np.asarray(sum(weight * cost for weight, cost in zip(BLEND, periods, strict=True)))


def foresee(
    loads: tuple[Floats, Floats], queue_mbit: Floats, period_s: Floats, limits: Limits, link: LinkModel
) -> Outlook:
    """Cost of holding each slot count, per scenario of `loads` (S, ..., 3) each; the later load is taken to last.

    `link` is one for all, or has the leading axes (...) of the loads.
    """
    count, lead = len(loads[0]), queue_mbit.shape[:-1]
    number = math.prod(lead)

    def flat(value: Any, *shape: int) -> Any:
        if value.size != number * math.prod(shape):
            value = np.ascontiguousarray(np.broadcast_to(value, (*lead, *shape)))
        return value.reshape(number, *shape)

    held = (limits.d_max_ms, limits.j_max_ms, limits.b_min_mbps, limits.violation_cost)
    figures = (link.base_delay_ms, link.burst_mbit, link.buffer_mbit, link.in_step)
    stages = np.empty((len(LENGTHS), count, number, CALENDAR_SLOTS + 1, 3))
    left = np.empty(stages.shape[1:])
    kernels.foreseen(
        np.stack(loads).reshape(2, count, number, 3), flat(queue_mbit, 3),
        LENGTHS[:, None] * flat(np.asarray(period_s, dtype=np.float64)), flat(limits.weights, 3, 3),
        tuple(flat(value, 3) for value in held), flat(limits.shortfall), tuple(flat(value, 3) for value in figures),
        stages, left,
    )  # fmt: skip
    shape = (count, *lead, CALENDAR_SLOTS + 1, 3)
    return Outlook(stages.reshape(len(LENGTHS), *shape), left.reshape(shape))
