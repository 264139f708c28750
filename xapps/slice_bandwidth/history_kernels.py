"""Compiled: a slice's past loads made a forecaster's row, and what the forecaster says made loads.

`forecast.py` gives the shapes and says what the figures mean.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.kernels import SLOT_MBPS, compiled, elementwise

__all__ = ["RATIO_LIMIT", "RECENT", "RECURRENCE", "ROW", "loads_of", "row_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

RECENT = 32
"""Periods that the network sees one by one; of all it sees figures."""
RECURRENCE = 12
"""Figures of how a load repeats itself, half of them for each of two lags."""
ROW = RECENT + 13 + RECURRENCE
RATIO_LIMIT = 4.0
"""Largest |log| of a load against the last one that the network is shown."""
RISE = 0.2
"""Logarithm of a load against the one before it that counts as a rise."""
SHORTEST_LAG, LEAST_OVERLAP, NEIGHBOURS = 3, 24, 2
"""Of the lags under which a load is compared with itself [period]."""
UNTOLD = 0.05
"""Sum of squared logarithms that speaks neither for nor against a lag: noise alone must not make one."""


@compiled
def _cut(value: float) -> float:
    """`value` within RATIO_LIMIT of 0."""
    return min(max(value, -RATIO_LIMIT), RATIO_LIMIT)


@partial(compiled, reorder=True)
def _product(values: Floats, lag: int) -> float:
    """Sum of products of `values` with those `lag` before them."""
    total, later = 0.0, values[lag:]
    for k in range(later.shape[0]):
        total += later[k] * values[k]
    return total


@compiled
def _unlikeness(centred: Floats, scores: Floats) -> None:
    """How far a load is from repeating itself after each lag: spread of the difference against that of both.

    Fills `scores` from SHORTEST_LAG on. What the load is without its first, or its last, so many periods changes by one
    period from lag to lag.
    """
    count = centred.shape[0]
    late = late_squares = early = early_squares = 0.0
    tails, tail_squares = np.empty(count), np.empty(count)
    for k in range(count - 1, -1, -1):
        late += centred[k]
        late_squares += centred[k] * centred[k]
        tails[k], tail_squares[k] = late, late_squares
    for k in range(LEAST_OVERLAP - 1):
        early += centred[k]
        early_squares += centred[k] * centred[k]
    for lag in range(scores.shape[0] - 1, SHORTEST_LAG - 1, -1):
        newest = centred[count - lag - 1]
        early += newest
        early_squares += newest * newest
        squares = early_squares + tail_squares[lag]
        spread = squares - (tails[lag] * tails[lag] + early * early) / (count - lag)
        differing = squares - 2 * _product(centred, lag)
        differing -= (tails[lag] - early) ** 2 / (count - lag)
        scores[lag] = (max(differing, 0.0) + UNTOLD) / (max(spread, 0.0) + UNTOLD)


@compiled
def _recurrence(logs: Floats, out: Rows) -> None:
    """How well a load repeats itself, and how it went on the last times: see :func:`forecast.forecast_rows`.

    logs (H,), oldest first; out (RECURRENCE,): half of it for the lag under which the load is least unlike itself, half
    for the best of those that are no neighbours of it, or for the shortest where that is better still.
    """
    now, mean = logs.shape[0] - 1, logs.mean()
    scores = np.empty(logs.shape[0] - LEAST_OVERLAP + 1)
    _unlikeness(logs - mean, scores)
    half, best = RECURRENCE // 2, -LEAST_OVERLAP
    for rank in range(2):
        found = SHORTEST_LAG
        for lag in range(SHORTEST_LAG, scores.shape[0]):
            if scores[lag] < scores[found] and abs(lag - best) > NEIGHBOURS:
                found = lag
        then, start = now - found, rank * half
        out[start] = _cut(scores[found])
        for ahead in range(3):
            out[start + 1 + ahead] = _cut(logs[then + 1 + ahead] - logs[then])
        for back in range(2):
            out[start + 4 + back] = _cut(logs[then - back] - logs[now - back])
        best = found


@compiled
def _recent(logs: Floats, out: Rows) -> None:
    """The newest RECENT loads against the last, their mean, how much they move, their largest, and the last load."""
    known, first = RECENT - 1, logs.shape[0] - RECENT
    last, total, squares, largest = logs[-1], 0.0, 0.0, -RATIO_LIMIT
    for k in range(known):
        against = _cut(logs[first + k] - last)
        step = logs[first + k + 1] - logs[first + k]
        out[k] = against
        total += against
        squares += step * step
        largest = max(largest, against)
    out[known] = total / known
    out[known + 1] = min(math.sqrt(squares / known), RATIO_LIMIT) * 5
    out[known + 2] = largest
    out[known + 3] = last / math.log(10.0) - math.log10(SLOT_MBPS)


@compiled
def _all(logs: Floats, out: Rows) -> None:
    """Of all periods: mean, least and largest load against the last, share of rises, largest rise."""
    count, last = logs.shape[0], logs[-1]
    total, least, largest, rises, rise = 0.0, 0.0, 0.0, 0, -np.inf  # the last load itself differs by 0
    for k in range(count):
        against = _cut(logs[k] - last)
        total += against
        least, largest = min(least, against), max(largest, against)
        if k:
            step = logs[k] - logs[k - 1]
            rises += step > RISE
            rise = max(rise, step)
    out[0], out[1], out[2] = total / count, least, largest
    out[3], out[4] = rises * (10.0 / count), min(rise, RATIO_LIMIT)


@elementwise("void(float64[:,:],float64,float64,float32[:],float32[:,:])", "(h,s),(),(),(f)->(s,f)")
def row_of(logs: Floats, period_s: float, alarm: float, shape: Rows, out: Rows) -> None:  # noqa: ARG001
    """See :func:`forecast.forecast_rows`; logs (H, 3) of the loads. `shape` is not read, it says that a row has ROW."""
    one = np.empty(logs.shape[0])  # with strides that the compiler knows, so that it makes vectors of it
    known = RECENT - 1
    for k in range(logs.shape[1]):
        for t in range(logs.shape[0]):
            one[t] = logs[t, k]
        _recent(one, out[k])
        out[k, known + 4] = alarm
        out[k, known + 5] = math.log10(period_s / 0.1)
        for other in range(3):
            out[k, known + 6 + other] = other == k
        _all(one, out[k, known + 9 :])
        _recurrence(one, out[k, known + 14 :])


@compiled
def loads_of(ratios: Rows, last: Floats, loads: Floats) -> None:
    """Fills loads (2, S, N, 3) from what the forecaster says, (N, 3, 2 S), and the last loads (N, 3).

    Quantiles may cross where the network is unsure: sorting never makes a quantile forecast worse.
    """
    horizons, count = loads.shape[0], loads.shape[1]
    for n in range(last.shape[0]):
        for k in range(last.shape[1]):
            for horizon in range(horizons):
                for s in range(count):
                    load = math.exp(_cut(ratios[n, k, horizon * count + s])) * last[n, k]
                    place = s
                    while place and loads[horizon, place - 1, n, k] > load:
                        loads[horizon, place, n, k] = loads[horizon, place - 1, n, k]
                        place -= 1
                    loads[horizon, place, n, k] = load
