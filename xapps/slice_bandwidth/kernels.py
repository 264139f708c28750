"""Compiled inner loops: the analytic queue, what it says of a burst's size, and eq (3) priced, one slice at a time.

`model.py`, `objective.py` and `forecast.py` give them their shapes and say what they mean. NumPy functions on arrays of
this size cost more in calls than in what they compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NO_SLOT_MBPS", "SLOT_MBPS", "TERM_LIMIT", "Links", "Terms", "bound_ms", "bound_of", "burst_of", "compiled",
    "elementwise", "foreseen", "moved_between", "moved_of", "overshoot_of", "predicted", "priced", "terms_of",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., Any])

SLOT_MBPS = 5_000.0
NO_SLOT_MBPS = 1.0
"""A slice without slots drains at next to nothing, so that every formula stays finite."""
SATURATED = 0.999
TERM_LIMIT = 10.0
"""Where each delay and jitter term is cut off in what controllers are compared by; the reported eq (3) never is."""
LEAST_BURST_MBIT, MOST_BURST_MBIT = 0.02, 4_000.0
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


def elementwise(signatures: Sequence[str], shapes: str) -> Callable[[Callable[..., None]], Any]:
    """A decorator to NumPy's generalised function of those signatures (numba's) and shapes."""

    def decorate(function: Callable[..., None]) -> Any:
        try:
            return numba.guvectorize(signatures, shapes, nopython=True, cache=True)(function)
        except RuntimeError:  # as above
            return numba.guvectorize(signatures, shapes, nopython=True)(function)

    return decorate


@compiled
def _spread(offered: float, period_s: float, burst: float) -> float:
    """Most that bursts can add to a mean backlog [Mbit]: half a random walk's spread over the period.

    A reflected one's mean is 0.53 of it.
    """
    return 0.5 * math.sqrt(max(offered, 1e-3) * burst * period_s)


@compiled
def _from_empty(offered: float, capacity: float, burst: float, limit: float) -> float:
    """Mean backlog [Mbit] that bursts make of an empty queue: Pollaczek-Khinchine, at most `limit`."""
    rho = min(offered / capacity, SATURATED)
    return min(burst * rho / (2 * (1 - rho)), limit)


@compiled
def _waiting(offered: float, capacity: float, fluid: float, period_s: float, burst: float) -> float:
    """Mean backlog [Mbit] that bursts add to the fluid one: less while that keeps the queue from running empty."""
    limit = _spread(offered, period_s, burst)
    added = _from_empty(offered, capacity, burst, limit)
    return added * math.exp(-fluid / limit) if fluid > 0 else added


@compiled
def _fluid(
    offered: float, queue: float, capacity: float, period_s: float, buffer: float
) -> tuple[float, float, float, float]:
    """Mean, variance and end of the fluid backlog [Mbit, Mbit^2, Mbit], and what the full buffer drops [Mbit]."""
    rate = offered - capacity
    # A backlog that was measured fits the buffer, whatever the model says of it.
    whole = max(queue + rate * period_s, 0.0)
    end = min(whole, max(buffer, queue))
    # The backlog moves from start to end in a straight line for this share of the period, then stays there.
    share = min(1.0, abs(end - queue) / max(abs(rate) * period_s, 1e-9))
    mean = share * (queue + end) / 2 + (1 - share) * end
    square = share * (queue * queue + queue * end + end * end) / 3 + (1 - share) * end * end
    return mean, max(square - mean * mean, 0.0), end, whole - end


@compiled
def _random(in_step: float) -> float:
    """Share of the bursts that wait for each other, of the share of bits that come in bursts."""
    return max((in_step - IN_TURN) / (1 - IN_TURN), 0.0)


@compiled
def _delays(
    mean: float, variance: float, waiting: float, to_ms: float, base_ms: float, burst: float, in_step: float
) -> tuple[float, float]:
    """Delay and jitter [ms] of a fluid backlog, its variance, and the backlog that bursts add; `to_ms` per Mbit."""
    own = in_step * burst / 2  # a bit of a burst waits on average for half of it
    spread = variance + waiting * waiting + in_step * burst * burst / 3 - own * own
    return base_ms + (mean + waiting + own) * to_ms, math.sqrt(spread) * to_ms


@compiled
def _period(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, buffer: float,
    in_step: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Delay [ms], jitter [ms], backlog at the end and volume dropped [Mbit] of one slice's period."""
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    mean, variance, end, lost = _fluid(offered, queue, capacity, period_s, buffer)
    waiting = _random(in_step) * _waiting(offered, capacity, mean, period_s, burst)
    delay, jitter = _delays(mean, variance, waiting, 1e3 / capacity, base_ms, burst, in_step)
    return delay, jitter, end, lost


@elementwise(
    ["void(" + 8 * "float64," + "float64[:],float64[:],float64[:],float64[:])"],
    "(),(),(),(),(),(),(),()->(),(),(),()",
)
def predicted(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, buffer: float,
    in_step: float, delay: Floats, jitter: Floats, end: Floats, lost: Floats,
) -> None:  # fmt: skip
    """See :func:`model.predict`."""
    delay[0], jitter[0], end[0], lost[0] = _period(offered, queue, slots, period_s, base_ms, burst, buffer, in_step)


@elementwise(
    ["void(float64,float64,float64,float64,float64,float64,float64,float64[:],float64[:],float64[:],float64[:])"],
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
    mean, variance, _, _ = _fluid(offered, queue, capacity, period_s, buffer)
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


@compiled
def bound_ms(offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float) -> float:
    """See :func:`safety.delay_bound_ms`, for one slice on so many slots."""
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    growth = max(offered - capacity, 0.0) * period_s / 2
    standing = burst / (1 + math.sqrt(max(1 - offered / capacity, 0.0)))
    return base_ms + (queue + growth + standing) / capacity * 1e3


@compiled
def _longest_ms(offered: float, queue: float, slots: float, period_s: float, base_ms: float) -> float:
    """Longest delay [ms] of a period without the bursts in it: of what comes last while the backlog grows, or first."""
    capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
    growth = max(offered - capacity, 0.0) * period_s
    return base_ms + (queue + growth) / capacity * 1e3


@compiled
def moved_between(before: Ints, after: Ints) -> int:
    """See :func:`objective.moved_slots`, of two splits (3,)."""
    gained = lost = 0
    for k in range(before.shape[0]):
        gained += max(after[k] - before[k], 0)
        lost += max(before[k] - after[k], 0)
    return max(gained, lost)


@elementwise(["void(int64[:],int64[:],int64[:])"], "(s),(s)->()")
def moved_of(before: Ints, after: Ints, moved: Ints) -> None:
    """See :func:`objective.moved_slots`."""
    moved[0] = moved_between(before, after)


@elementwise(["void(float64,float64,float64,float64,float64,float64,float64[:])"], "(),(),(),(),(),()->()")
def bound_of(
    offered: float, queue: float, slots: float, period_s: float, base_ms: float, burst: float, bound: Floats
) -> None:
    """See :func:`safety.delay_bound_ms`."""
    bound[0] = bound_ms(offered, queue, slots, period_s, base_ms, burst)


@elementwise(
    ["void(float64[:],float64[:],float64,float64,float64,float64,float64,float64,float64[:])"],
    "(z),(z),(),(),(),(),(),()->()",
)
def overshoot_of(
    loads: Floats, masses: Floats, queue: float, slots: float, period_s: float, base_ms: float, budget: float,
    most: float, over: Floats,
) -> None:  # fmt: skip
    """See :func:`safety.in_budget`: how far beyond its budget, relative to it, a slice is expected to be."""
    over[0] = 0.0
    for z in range(masses.shape[0]):
        beyond = _longest_ms(loads[z], queue, slots, period_s, base_ms) / budget - 1
        over[0] += masses[z] * min(max(beyond, 0.0), most)


@compiled
def _third(slots: float, least_mbps: float, shortfall: bool) -> float:
    """B / B_min, or B_min / B, of so many slots."""
    ratio = slots * SLOT_MBPS / least_mbps
    return 1 / max(ratio, 1e-3) if shortfall else ratio


@elementwise(
    ["void(float64,float64,float64,float64,float64[:],float64,float64,float64,boolean,float64[:],boolean[:])"],
    "(),(),(),(),(t),(),(),(),()->(t),(t)",
)
def terms_of(
    delay: float, jitter: float, lost: float, slots: float, weights: Floats, d_max: float, j_max: float, b_min: float,
    shortfall: bool, terms: Floats, broken: NDArray[np.bool_],
) -> None:  # fmt: skip
    """See :func:`objective.evaluate`: delay, jitter and third term of a slice, and whether D, J and B are broken."""
    terms[0] = weights[0] * delay / d_max
    terms[1] = weights[1] * jitter / j_max
    terms[2] = weights[2] * _third(slots, b_min, shortfall)
    broken[0], broken[1], broken[2] = delay > d_max or lost > 0, jitter > j_max, slots * SLOT_MBPS < b_min


@compiled
def _priced(
    got: tuple[float, float, float], fixed: float, limits: tuple[float, float, float],
    weights: Floats | tuple[float, float],
) -> float:  # fmt: skip
    """Cut terms and the price of broken limits.

    `got`: delay, jitter and loss; `limits`: D_max, J_max and the price of a broken one; alpha and beta `weights`.
    """
    delay, jitter, lost = got
    d_max, j_max, price = limits
    cost: float = fixed + min(weights[0] * delay / d_max, TERM_LIMIT) + min(weights[1] * jitter / j_max, TERM_LIMIT)
    if delay > d_max or lost > 0:
        cost += price
    return cost + price if jitter > j_max else cost


@compiled
def _fixed(slots: float, gamma: float, b_min: float, price: float, shortfall: bool) -> float:
    """What so many slots cost whatever the load: the third term, and B < B_min."""
    broken = price if slots * SLOT_MBPS < b_min else 0.0
    return float(gamma * _third(slots, b_min, shortfall) + broken)


@elementwise(
    ["void(float64,float64,float64,float64,float64[:],float64,float64,float64,float64,boolean,float64[:])"],
    "(),(),(),(),(t),(),(),(),(),()->()",
)
def priced(
    delay: float, jitter: float, lost: float, slots: float, weights: Floats, d_max: float, j_max: float, b_min: float,
    price: float, shortfall: bool, cost: Floats,
) -> None:  # fmt: skip
    """See :func:`objective.priced_table`."""
    fixed = _fixed(slots, weights[2], b_min, price, shortfall)
    cost[0] = _priced((delay, jitter, lost), fixed, (d_max, j_max, price), weights)


class Terms(NamedTuple):
    """The policies of N nodes: weights (N, 3, 3), limits and their price (N, 3), form and price of moves (N,)."""

    weights: Floats
    d_max_ms: Floats
    j_max_ms: Floats
    b_min_mbps: Floats
    violation_cost: Floats
    shortfall: NDArray[np.bool_]
    slot_move_cost: Floats


class Links(NamedTuple):
    """What is assumed of the links of N nodes (N, 3), as `model.LinkModel` has it."""

    base_delay_ms: Floats
    burst_mbit: Floats
    buffer_mbit: Floats
    in_step: Floats


CAPACITY, TO_MS, FIXED, BACKLOG, COST, MEAN, VARIANCE, LOST = range(8)
"""Rows of a table (8, C) of one slice on each of C slot counts: what they carry [Mb/s], delay of a Mbit [ms], cost
whatever the load; then what a stage changes: backlog [Mbit], cost, the fluid backlog's mean and variance, what is
dropped [Mbit]. One table, because compiled code counts its references to each array that it hands on."""


@compiled
def _stage(
    offered: float, period_s: float, link: tuple[float, float, float, float], limits: tuple[float, float, float],
    weights: tuple[float, float], table: Floats,
) -> None:  # fmt: skip
    """One period of one slice, priced, as :func:`_period` has it, in loops that become vectors."""
    base_ms, burst, buffer, in_step = link
    limit, random = _spread(offered, period_s, burst), _random(in_step)
    counts = table.shape[1]
    for c in range(counts):
        backlog, capacity = table[BACKLOG, c], table[CAPACITY, c]
        mean, variance, table[BACKLOG, c], lost = _fluid(offered, backlog, capacity, period_s, buffer)
        table[MEAN, c], table[VARIANCE, c], table[LOST, c] = mean, variance, lost
        table[COST, c] = random * _from_empty(offered, capacity, burst, limit)
    for c in range(counts):
        if table[MEAN, c] > 0:
            table[COST, c] *= math.exp(-table[MEAN, c] / limit)
    for c in range(counts):
        mean, variance, waiting = table[MEAN, c], table[VARIANCE, c], table[COST, c]
        delay, jitter = _delays(mean, variance, waiting, table[TO_MS, c], base_ms, burst, in_step)
        table[COST, c] = _priced((delay, jitter, table[LOST, c]), table[FIXED, c], limits, weights)


@compiled
def foreseen(
    loads: Floats, queue: Floats, lengths_s: Floats, terms: Terms, links: Links, stages: Floats, left: Floats
) -> None:
    """See :func:`forecast.foresee`: fills stages (K, S, N, C, 3) and left (S, N, C, 3).

    loads (2, S, N, 3): of the first stage and of all others; queue (N, 3); lengths_s (K, N).
    """
    counts = left.shape[2]
    table = np.empty((LOST + 1, counts))
    for c in range(counts):
        table[CAPACITY, c] = max(c * SLOT_MBPS, NO_SLOT_MBPS)
        table[TO_MS, c] = 1e3 / table[CAPACITY, c]
    for n in range(queue.shape[0]):
        for k in range(3):
            weights, price, b_min = terms.weights[n, k], terms.violation_cost[n, k], terms.b_min_mbps[n, k]
            limits = (terms.d_max_ms[n, k], terms.j_max_ms[n, k], price)
            link = (links.base_delay_ms[n, k], links.burst_mbit[n, k], links.buffer_mbit[n, k], links.in_step[n, k])
            for c in range(counts):
                table[FIXED, c] = _fixed(c, weights[2], b_min, price, terms.shortfall[n])
            for s in range(loads.shape[1]):
                table[BACKLOG] = queue[n, k]
                for stage in range(stages.shape[0]):
                    load, length_s = loads[min(stage, 1), s, n, k], lengths_s[stage, n]
                    _stage(load, length_s, link, limits, (weights[0], weights[1]), table)
                    for c in range(counts):
                        stages[stage, s, n, c, k] = table[COST, c]
                    if stage == 0:
                        for c in range(counts):
                            left[s, n, c, k] = table[BACKLOG, c]
