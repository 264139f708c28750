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

from xapps.slice_bandwidth import history_kernels, kernels
from xapps.slice_bandwidth.history_kernels import RATIO_LIMIT, RECENT, ROW
from xapps.slice_bandwidth.kernels import Links, Terms
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, LinkModel
from xapps.slice_bandwidth.objective import Limits

__all__ = [
    "BLEND", "COLUMNS", "HORIZONS", "LEVELS", "MASSES", "OUTPUTS", "RATIO_LIMIT", "RECENT", "Forecaster", "Outlook",
    "blended", "flat", "forecast_rows", "foresee", "foreseen", "links_of", "persistence", "scenarios",
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
COLUMNS = ROW
"""Columns of a forecaster's row, see :func:`forecast_rows`."""
LENGTHS = np.array([1.0, 2.0, 8.0])
"""Periods in each stage of an outlook: the coming one, the two after it, and those over which a backlog is followed."""
BLEND = (0.5, 0.25, 0.25)
"""Weight of the coming period, of the two after it and of those after these; among the best of six on training seeds,
which differ by 0.3 %."""


class Forecaster(Protocol):
    """Quantiles of log(load / last load)."""

    def __call__(self, rows: Rows, /) -> Rows:
        """(R, OUTPUTS) from rows (R, COLUMNS): the coming period's scenarios, then those of the two after it."""
        ...


def persistence(rows: Rows) -> Rows:
    """The forecaster that expects the last load again, for sure."""
    return np.zeros((len(rows), OUTPUTS), dtype=np.float32)


def forecast_rows(offered_mbps: Floats, period_s: Floats, alarm: Floats) -> Rows:
    """Rows (..., 3, COLUMNS) from offered_mbps (..., HISTORY, 3) [Mb/s], period_s and alarm (...).

    Columns: log of each of the newest RECENT loads against the last (RECENT - 1); mean, spread and largest of
    those; log10 of the last load in slots; alarm (0 none, 1 old, 2 new); log10 of the period in 0.1 s; slice (3).
    Of all HISTORY periods: mean, least and largest; share of periods that rise by a fifth or more, largest rise;
    how far the load is from repeating itself (0 to 2), three steps of what followed the last time, and how the last
    time differs from now.
    """
    logs = np.log(np.maximum(offered_mbps, 1.0))
    return np.asarray(history_kernels.row_of(logs, period_s, alarm, SHAPE))


SHAPE = np.zeros(COLUMNS, dtype=np.float32)


def scenarios(forecaster: Forecaster, offered_mbps: Floats, period_s: Floats, alarm: Floats) -> Floats:
    """Loads (2, S, ..., 3) [Mb/s] of the coming period and of the two after it, one per scenario, rising with S."""
    rows = forecast_rows(offered_mbps, period_s, alarm)
    ratios = np.ascontiguousarray(forecaster(rows.reshape(-1, COLUMNS)), dtype=np.float32)
    last = flat(offered_mbps[..., -1, :], math.prod(rows.shape[:-2]), 3)
    loads = np.empty((HORIZONS, len(MASSES), len(last), 3))
    history_kernels.loads_of(ratios.reshape(-1, 3, OUTPUTS), last, loads)
    return loads.reshape(HORIZONS, len(MASSES), *rows.shape[:-2], 3)


def flat(value: NDArray[Any], number: int, *shape: int) -> Any:
    """`value` (..., *shape) as (number, *shape), contiguous; one that is the same for all is repeated."""
    whole = (number, *shape)
    if value.shape != whole:
        if value.size != math.prod(whole):
            value = np.broadcast_to(value, whole)
        value = value.reshape(whole)
    return np.ascontiguousarray(value)


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
    loads: Floats | tuple[Floats, Floats], queue_mbit: Floats, period_s: Floats, limits: Limits, link: LinkModel
) -> Outlook:
    """Cost of holding each slot count, per scenario of `loads` (2, S, ..., 3); the later load is taken to last.

    `limits` and `link` are one for all, or have the leading axes (...) of the loads.
    """
    coming = np.asarray(loads)
    count, lead = coming.shape[1], coming.shape[2:-1]
    number = math.prod(lead)
    stages, left = foreseen(
        coming.reshape(2, count, number, 3), flat(queue_mbit, number, 3),
        flat(np.asarray(period_s, dtype=np.float64), number), terms_of(limits, number), links_of(link, number),
    )  # fmt: skip
    shape = (count, *lead, CALENDAR_SLOTS + 1, 3)
    return Outlook(stages.reshape(len(LENGTHS), *shape), left.reshape(shape))


def foreseen(loads: Floats, queue_mbit: Floats, period_s: Floats, terms: Terms, links: Links) -> tuple[Floats, Floats]:
    """:func:`foresee` for N nodes in a row: stages (3, S, N, 21, 3) and backlogs (S, N, 21, 3)."""
    stages = np.empty((len(LENGTHS), *loads.shape[1:-1], CALENDAR_SLOTS + 1, 3))
    left = np.empty(stages.shape[1:])
    kernels.foreseen(loads, queue_mbit, LENGTHS[:, None] * period_s, terms, links, stages, left)
    return stages, left


def terms_of(limits: Limits, number: int) -> Terms:
    """The limits of `number` nodes in a row."""
    values = (limits.d_max_ms, limits.j_max_ms, limits.b_min_mbps, limits.violation_cost)
    d_max, j_max, b_min, price = (flat(value, number, 3) for value in values)
    return Terms(
        flat(limits.weights, number, 3, 3), d_max, j_max, b_min, price, flat(limits.shortfall, number),
        flat(limits.slot_move_cost, number),
    )  # fmt: skip


def links_of(link: LinkModel, number: int) -> Links:
    """The links of `number` nodes in a row."""
    values = (link.base_delay_ms, link.burst_mbit, link.buffer_mbit, link.in_step)
    base_ms, burst, buffer, in_step = (flat(value, number, 3) for value in values)
    return Links(base_ms, burst, buffer, in_step)
