"""Compiled inner loops: the analytic queue, what it says of a burst's size, and eq (3) priced, one slice at a time.

`model.py`, `objective.py` and `forecast.py` give them their shapes and say what they mean. NumPy functions on arrays of
this size cost more in calls than in what they compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NO_SLOT_MBPS", "RECURRENCE", "SLOT_MBPS", "TERM_LIMIT", "bound_of", "burst_of", "foreseen", "predicted", "priced",
    "recurrence_of", "terms_of",
]  # fmt: skip

Floats = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])

SLOT_MBPS = 5_000.0
NO_SLOT_MBPS = 1.0
"""A slice without slots drains at next to nothing, so that every formula stays finite."""
SATURATED = 0.999
TERM_LIMIT = 10.0
"""Where each delay and jitter term is cut off in what controllers are compared by; the reported eq (3) never is."""
LEAST_BURST_MBIT, MOST_BURST_MBIT = 0.02, 4_000.0
SHORTEST_LAG, LEAST_OVERLAP, NEIGHBOURS = 3, 24, 2
"""Of the lags under which a load is compared with itself [period]."""
UNTOLD = 0.05
"""Sum of squared logarithms that speaks neither for nor against a lag: noise alone must not make one."""
RECURRENCE = 12
"""Figures that :func:`recurrence_of` gives of a slice."""
LEAST_BASE_MS, LEAST_SHARE = 0.1, 0.1
"""Least base delay [ms] that random bursts must leave, and least share [1] of bits that come in bursts."""
IN_TURN = 0.9
"""Largest share of bits in bursts at which bursts take turns, so that none waits for another."""
HALVINGS = 18
"""Of the logarithm of the burst's range: to 0.005 %."""


def compiled(function: Function, *, reorder: bool = False) -> Function:
    """`function` as machine code, kept on disk where the installation allows it; sums in any order if `reorder`."""
    fastmath = {"reassoc", "contract"} if reorder else False
    try:
        made: Function = numba.njit(function, cache=True, nogil=True, error_model="numpy", fastmath=fastmath)
    except RuntimeError:  # nowhere to keep it, as in a read-only image
        made = numba.njit(function, nogil=True, error_model="numpy", fastmath=fastmath)
    return made


def elementwise(signature: str, shapes: str) -> Callable[[Callable[..., None]], Any]:
    """A decorator to NumPy's generalised function of that signature (numba's) and those shapes."""

    def decorate(function: Callable[..., None]) -> Any:
        try:
            return numba.guvectorize([signature], shapes, nopython=True, cache=True)(function)
        except RuntimeError:  # as above
            return numba.guvectorize([signature], shapes, nopython=True)(function)

    return decorate


@compiled
def _waiting(offered: float, capacity: float, fluid: float, period_s: float, burst: float) -> float:
    """Mean backlog [Mbit] that bursts add to the fluid one.

    Pollaczek-Khinchine below saturation, at most half a random walk's spread over the period (a reflected one's mean is
    0.53 of it), and less while the fluid backlog keeps the queue from running empty.
    """
    rho = min(offered / capacity, SATURATED)
    limit = 0.5 * math.sqrt(max(offered, 1e-3) * burst * period_s)
    added = min(burst * rho / (2 * (1 - rho)), limit)
    return added * math.exp(-fluid / limit) if fluid > 0 else added


@compiled
def _fluid(offered: float, queue: float, capacity: float, period_s: float, buffer: float) -> tuple[float, float, float]:
    """Mean, variance and end of the fluid backlog [Mbit, Mbit^2, Mbit]."""
    rate = offered - capacity
    # A backlog that was measured fits the buffer, whatever the model says of it.
    end = min(max(queue + rate * period_s, 0.0), max(buffer, queue))
    # The backlog moves from start to end in a straight line for this share of the period, then stays there.
    share = min(1.0, abs(end - queue) / max(abs(rate) * period_s, 1e-9))
    mean = share * (queue + end) / 2 + (1 - share) * end
    square = share * (queue * queue + queue * end + end * end) / 3 + (1 - share) * end * end
    return mean, max(square - mean * mean, 0.0), end


@compiled
def _period(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, buffer: float,
    in_step: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Delay [ms], jitter [ms] and backlog at the end [Mbit] of one slice's period."""
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    mean, variance, end = _fluid(offered, queue, capacity, period_s, buffer)
    random = max((in_step - IN_TURN) / (1 - IN_TURN), 0.0)
    waiting = random * _waiting(offered, capacity, mean, period_s, burst)
    own = in_step * burst / 2  # a bit of a burst waits on average for half of it
    to_ms = 1e3 / capacity
    variance += waiting * waiting + in_step * burst * burst / 3 - own * own
    return base_ms + (mean + waiting + own) * to_ms, math.sqrt(variance) * to_ms, end


@elementwise(
    "void(float64,float64,float64,float64,float64,float64,float64,float64,float64[:],float64[:],float64[:])",
    "(),(),(),(),(),(),(),()->(),(),()",
)
def predicted(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, buffer: float,
    in_step: float, delay: Floats, jitter: Floats, end: Floats,
) -> None:  # fmt: skip
    """See :func:`model.predict`."""
    delay[0], jitter[0], end[0] = _period(offered, queue, slots, period_s, base_ms, burst, buffer, in_step)


@elementwise(
    "void(float64,float64,float64,float64,float64,float64,float64,float64[:],float64[:],float64[:],float64[:])",
    "(),(),(),(),(),(),()->(),(),(),()",
)
def burst_of(
    offered: float, queue: float, slots: float, period_s: float, buffer: float, delay: float, jitter: float,
    burst: Floats, base_ms: Floats, in_step: Floats, trust: Floats,
) -> None:  # fmt: skip
    """See :func:`calibration.calibrated`: the burst that explains a measured jitter, and what that leaves of the delay.

    Where bursts at random instants explain more delay than there was, a part of the bits comes in bursts in turn:
    delay and jitter say which part, and how large the bursts are.
    """
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    mean, variance, _ = _fluid(offered, queue, capacity, period_s, buffer)
    whole = (jitter * capacity / 1e3) ** 2
    wanted = max(whole - variance, 0.0)
    low, high = math.log(LEAST_BURST_MBIT), math.log(MOST_BURST_MBIT)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        size = math.exp(middle)
        waiting = _waiting(offered, capacity, mean, period_s, size)
        if waiting * waiting + size * size / 12 < wanted:
            low = middle
        else:
            high = middle
    burst[0] = math.exp(0.5 * (low + high))
    waiting = _waiting(offered, capacity, mean, period_s, burst[0])
    to_ms = 1e3 / capacity
    rest = delay - mean * to_ms
    base_ms[0], in_step[0] = rest - (waiting + burst[0] / 2) * to_ms, 1.0
    if base_ms[0] < LEAST_BASE_MS:
        base_ms[0] = min(max(rest, 0.0), LEAST_BASE_MS)
        waits = max((rest - base_ms[0]) / to_ms, LEAST_BURST_MBIT / 2)
        whole_burst = 1.5 * (wanted + waits * waits) / waits
        in_step[0] = min(max(2 * waits / whole_burst, LEAST_SHARE), IN_TURN)
        burst[0] = min(max(whole_burst, LEAST_BURST_MBIT), MOST_BURST_MBIT)
    trust[0] = wanted / max(whole, 1e-12)


@elementwise("void(float64,float64,float64,float64,float64,float64,float64[:])", "(),(),(),(),(),()->()")
def bound_of(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, bound: Floats
) -> None:
    """See :func:`safety.delay_bound_ms`."""
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    growth = max(offered - capacity, 0.0) * period_s / 2
    standing = burst / (1 + math.sqrt(max(1 - offered / capacity, 0.0)))
    bound[0] = base_ms + (queue + growth + standing) / capacity * 1e3


@compiled
def _third(slots: float, least_mbps: float, shortfall: bool) -> float:
    """B / B_min, or B_min / B, of so many slots."""
    ratio = slots * SLOT_MBPS / least_mbps
    return 1 / max(ratio, 1e-3) if shortfall else ratio


@elementwise(
    "void(float64,float64,float64,float64[:],float64,float64,float64,boolean,float64[:],boolean[:])",
    "(),(),(),(t),(),(),(),()->(t),(t)",
)
def terms_of(
    delay: float, jitter: float, slots: float, weights: Floats, d_max: float, j_max: float, b_min: float,
    shortfall: bool, terms: Floats, broken: NDArray[np.bool_],
) -> None:  # fmt: skip
    """See :func:`objective.evaluate`: delay, jitter and third term of a slice, and whether D, J and B are broken."""
    terms[0] = weights[0] * delay / d_max
    terms[1] = weights[1] * jitter / j_max
    terms[2] = weights[2] * _third(slots, b_min, shortfall)
    broken[0], broken[1], broken[2] = delay > d_max, jitter > j_max, slots * SLOT_MBPS < b_min


@compiled
def _priced(delay: float, jitter: float, fixed: float, limits: tuple[float, float, float], weights: Floats) -> float:
    """Cut terms and the price of broken limits; `limits`: D_max, J_max and that price."""
    d_max, j_max, price = limits
    cost: float = fixed + min(weights[0] * delay / d_max, TERM_LIMIT) + min(weights[1] * jitter / j_max, TERM_LIMIT)
    if delay > d_max:
        cost += price
    return cost + price if jitter > j_max else cost


@compiled
def _fixed(slots: float, weights: Floats, b_min: float, price: float, shortfall: bool) -> float:
    """What so many slots cost whatever the load: the third term, and B < B_min."""
    broken = price if slots * SLOT_MBPS < b_min else 0.0
    return float(weights[2] * _third(slots, b_min, shortfall) + broken)


@elementwise(
    "void(float64,float64,float64,float64[:],float64,float64,float64,float64,boolean,float64[:])",
    "(),(),(),(t),(),(),(),(),()->()",
)
def priced(
    delay: float, jitter: float, slots: float, weights: Floats, d_max: float, j_max: float, b_min: float, price: float,
    shortfall: bool, cost: Floats,
) -> None:  # fmt: skip
    """See :func:`objective.priced_table`."""
    cost[0] = _priced(delay, jitter, _fixed(slots, weights, b_min, price, shortfall), (d_max, j_max, price), weights)


@compiled
def foreseen(
    loads: Floats, queue: Floats, lengths_s: Floats, weights: Floats, limits: tuple[Floats, Floats, Floats, Floats],
    shortfall: NDArray[np.bool_], link: tuple[Floats, Floats, Floats, Floats], stages: Floats, left: Floats,
) -> None:  # fmt: skip
    """See :func:`forecast.foresee`: fills stages (K, S, N, C, 3) and left (S, N, C, 3).

    loads (2, S, N, 3): of the first stage and of all others; queue (N, 3); lengths_s (K, N); weights (N, 3, 3);
    limits: D_max, J_max, B_min and price (N, 3) each; link: base delay, burst, buffer and share in bursts (N, 3) each.
    """
    d_max, j_max, b_min, price = limits
    base_ms, burst, buffer, in_step = link
    for n in range(queue.shape[0]):
        for k in range(3):
            bounds = (d_max[n, k], j_max[n, k], price[n, k])
            for slots in range(left.shape[2]):
                fixed = _fixed(slots, weights[n, k], b_min[n, k], price[n, k], shortfall[n])
                for s in range(loads.shape[1]):
                    backlog = queue[n, k]
                    for stage in range(stages.shape[0]):
                        delay, jitter, backlog = _period(
                            loads[min(stage, 1), s, n, k], backlog, slots, lengths_s[stage, n], base_ms[n, k],
                            burst[n, k], buffer[n, k], in_step[n, k],
                        )  # fmt: skip
                        stages[stage, s, n, slots, k] = _priced(delay, jitter, fixed, bounds, weights[n, k])
                        if stage == 0:
                            left[s, n, slots, k] = backlog


@partial(compiled, reorder=True)
def _unlikeness(logs: Floats, lag: int) -> float:
    """How far a load is from repeating itself after `lag` periods: spread of the difference against that of both."""
    first = second = squares = cross = 0.0
    for k in range(lag, logs.shape[0]):
        one, other = logs[k], logs[k - lag]
        first += one
        second += other
        squares += one * one + other * other
        cross += one * other
    count = logs.shape[0] - lag
    spread = squares - (first * first + second * second) / count
    differing = squares - 2 * cross - (first - second) ** 2 / count
    unlike: float = (max(differing, 0.0) + UNTOLD) / (max(spread, 0.0) + UNTOLD)
    return unlike


@elementwise("void(float64[:],float64[:],float64[:])", "(h),(f)->(f)")
def recurrence_of(logs: Floats, shape: Floats, out: Floats) -> None:  # noqa: ARG001
    """How well a load repeats itself, and how it went on the last times: see :func:`forecast.forecast_rows`.

    logs (H,), oldest first; `shape` is not read, it says that there are `RECURRENCE` figures, half of them for the lag
    under which the load is least unlike itself, half for the best of those that are no neighbours of it.
    """
    now, mean = logs.shape[0] - 1, logs.mean()
    centred = np.empty(logs.shape[0])  # with strides that the compiler knows, so that it makes vectors of it
    for k in range(logs.shape[0]):
        centred[k] = logs[k] - mean
    scores = np.empty(logs.shape[0] - LEAST_OVERLAP + 1)
    for lag in range(SHORTEST_LAG, scores.shape[0]):
        scores[lag] = _unlikeness(centred, lag)
    half, best = out.shape[0] // 2, -LEAST_OVERLAP
    for rank in range(2):
        found = SHORTEST_LAG
        for lag in range(SHORTEST_LAG, scores.shape[0]):
            if scores[lag] < scores[found] and abs(lag - best) > NEIGHBOURS:
                found = lag
        then = now - found
        out[rank * half] = scores[found]
        for ahead in range(3):
            out[rank * half + 1 + ahead] = logs[then + 1 + ahead] - logs[then]
        for back in range(2):
            out[rank * half + 4 + back] = logs[then - back] - logs[now - back]
        best = found
