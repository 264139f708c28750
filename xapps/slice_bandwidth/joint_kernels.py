"""Compiled inner loops of a link that nodes share: its fluid over a period, and what the nodes' splits make all wait.

`aggregation.py` and `joint.py` give them their shapes and say what they mean.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.kernels import (
    NO_SLOT_MBPS,
    SLOT_MBPS,
    _fixed,
    _period,
    _priced,
    compiled,
    elementwise,
)

__all__ = ["Carried", "Foreseen", "Terms", "added", "descend", "foreseen_on_link", "passed_over"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_MBPS = 100.0
"""A slice that others leave nothing counts as served by this, so that its wait stays a number."""
LEAST_GAIN = 1e-9
"""What a split must be cheaper by to take another's place: ties keep what was there."""


LOSS_PRICE = 0.3
"""Broken limits that a period counts for in which a slice loses all that comes, less where it loses a share, on top of
the one that it breaks by losing anything: without it, what loses a little may as well lose much. Of 0, 0.3, 1, 3 and 10
on development seeds and the shipped scenario: 0.3 loses as little as 1 and breaks fewer limits."""


class Foreseen(NamedTuple):
    """Per scenario and stage, (S, K, M, 3, C) each for M nodes and C slot counts.

    Delay and jitter [ms], cost and price of what is lost on the nodes' own links; volume [Mbit] that they let through
    to the shared one.
    """

    delay_ms: Floats
    jitter_ms: Floats
    cost: Floats
    loss_cost: Floats
    passed_mbit: Floats


class Terms(NamedTuple):
    """What a wait costs: weights (M, 3, 3), D_max, J_max, price of a broken limit (M, 3), third term (M, 3, C)."""

    weights: Floats
    d_max_ms: Floats
    j_max_ms: Floats
    price: Floats
    fixed: Floats


class Carried(NamedTuple):
    """The shared link: backlog (3,) [Mbit], rate [Mb/s], buffer [Mbit]; stages (K,) [s], weights (S, K) of all."""

    queue_mbit: Floats
    capacity_mbps: float
    buffer_mbit: float
    lengths_s: Floats
    weights: Floats


@compiled
def _pass(arriving: Floats, queue: Floats, link: tuple[float, float, float], wait: Floats, left: Floats) -> None:
    """Fills wait (3, 3) with mean [ms], variance [ms^2], share of `arriving` lost, and left (3,) with backlogs [Mbit].

    `link`: rate, period and buffer.
    """
    free, period_s, room = link
    for k in range(3):
        start, change = queue[k], arriving[k] - free * period_s
        end = max(start + change, 0.0)
        # It moves from start to end in a straight line for this share of the period, then stays.
        share = min(1.0, abs(end - start) / max(abs(change), 1e-9))
        held = share * (start + end) / 2 + (1 - share) * end
        square = share * (start * start + start * end + end * end) / 3 + (1 - share) * end * end
        to_ms = 1e3 / max(free, LEAST_MBPS)
        left[k] = min(end, room)
        wait[0, k] = held * to_ms
        wait[1, k] = max(square - held * held, 0.0) * to_ms * to_ms
        wait[2, k] = min((end - left[k]) / max(arriving[k], 1e-9), 1.0)
        free = max(free - (start + arriving[k] - end) / period_s, 0.0)
        room -= left[k]


@elementwise(
    ["void(float64[:],float64[:],float64,float64,float64,float64[:],float64[:],float64[:],float64[:])"],
    "(t),(t),(),(),()->(t),(t),(t),(t)",
)
def passed_over(
    arriving: Floats, queue: Floats, capacity_mbps: float, period_s: float, buffer: float,
    mean: Floats, variance: Floats, left: Floats, lost: Floats,
) -> None:  # fmt: skip
    """See :func:`aggregation.pass_link`."""
    wait = np.empty((3, 3))
    _pass(arriving, queue, (capacity_mbps, period_s, buffer), wait, left)
    mean[:] = wait[0]
    variance[:] = wait[1]
    lost[:] = wait[2]


@compiled
def foreseen_on_link(
    loads: Floats, queue: Floats, lengths_s: Floats, terms: Terms, link: tuple[Floats, Floats, Floats, Floats],
    out: Foreseen,
) -> None:  # fmt: skip
    """See :func:`joint.foresee_nodes`: fills `out` for the slot counts 0 to C - 1.

    loads (2, 2, S, M, 3): that of each node by itself and that which the shared link is given, of the first stage and
    of all others; queue (M, 3); lengths_s (K,); link: base delay, burst, buffer and share in bursts (M, 3) each.
    """
    base_ms, burst, buffer, in_step = link
    scenarios, stages, number, slices, counts = out.cost.shape
    for n in range(number):
        for k in range(slices):
            bounds = (terms.d_max_ms[n, k], terms.j_max_ms[n, k], terms.price[n, k])
            for slots in range(counts):
                capacity = max(slots * SLOT_MBPS, NO_SLOT_MBPS)
                for s in range(scenarios):
                    own, sent = queue[n, k], queue[n, k]
                    for stage in range(stages):
                        at, length = min(stage, 1), lengths_s[stage]
                        came = loads[0, at, s, n, k] * length
                        delay, jitter, own, lost = _period(
                            loads[0, at, s, n, k], own, slots, length, base_ms[n, k], burst[n, k], buffer[n, k],
                            in_step[n, k],
                        )  # fmt: skip
                        cost = _priced((delay, jitter, lost), terms.fixed[n, k, slots], bounds, terms.weights[n, k])
                        out.delay_ms[s, stage, n, k, slots] = delay
                        out.jitter_ms[s, stage, n, k, slots] = jitter
                        out.cost[s, stage, n, k, slots] = cost
                        share = min(lost / max(came, 1e-9), 1.0)
                        out.loss_cost[s, stage, n, k, slots] = LOSS_PRICE * terms.price[n, k] * share
                        load, before = loads[1, at, s, n, k], sent
                        sent = min(max(before + (load - capacity) * length, 0.0), max(buffer[n, k], before))
                        volume = load * length + before - sent
                        out.passed_mbit[s, stage, n, k, slots] = min(volume, capacity * length)


@compiled
def third_terms(weights: Floats, b_min: Floats, price: Floats, shortfall: NDArray[np.bool_], fixed: Floats) -> None:
    """Fills fixed (M, 3, C): what so many slots cost whatever the load."""
    for n in range(fixed.shape[0]):
        for k in range(fixed.shape[1]):
            for slots in range(fixed.shape[2]):
                fixed[n, k, slots] = _fixed(slots, weights[n, k, 2], b_min[n, k], price[n, k], shortfall[n])


@compiled
def _on_top(at: tuple[int, int], node: int, k: int, slots: int, wait: Floats, seen: Foreseen, terms: Terms) -> float:
    """What waits and losses (3, 3), see :func:`_pass`, cost slice k of a node beyond what its own link does.

    `at`: scenario and stage.
    """
    if wait[0, k] <= 0:
        return 0.0
    s, stage = at
    jitter = seen.jitter_ms[s, stage, node, k, slots]
    bounds = (terms.d_max_ms[node, k], terms.j_max_ms[node, k], terms.price[node, k])
    late, unsteady = seen.delay_ms[s, stage, node, k, slots] + wait[0, k], math.sqrt(jitter**2 + wait[1, k])
    lost = seen.loss_cost[s, stage, node, k, slots] + wait[2, k]
    cost = _priced((late, unsteady, lost), terms.fixed[node, k, slots], bounds, terms.weights[node, k])
    lost_cost = LOSS_PRICE * terms.price[node, k] * wait[2, k]
    return float(cost + lost_cost - seen.cost[s, stage, node, k, slots])


@compiled
def added(held: Ints, seen: Foreseen, terms: Terms, link: Carried, out: Floats) -> None:
    """Fills out (M, 3) with what the shared link's waits are expected to cost under the splits `held` (M, 3)."""
    out[:] = 0.0
    wait, volume, left = np.empty((3, 3)), np.empty(3), np.empty(3)
    for s in range(link.weights.shape[0]):
        queue = link.queue_mbit.copy()
        for stage in range(link.weights.shape[1]):
            volume[:] = 0.0
            for n in range(held.shape[0]):
                for k in range(3):
                    volume[k] += seen.passed_mbit[s, stage, n, k, held[n, k]]
            figures = (link.capacity_mbps, link.lengths_s[stage], link.buffer_mbit)
            _pass(volume, queue, figures, wait, left)
            queue[:] = left
            for n in range(held.shape[0]):
                for k in range(3):
                    out[n, k] += link.weights[s, stage] * _on_top((s, stage), n, k, held[n, k], wait, seen, terms)


@compiled
def _others(node: int, held: Ints, seen: Foreseen, out: Floats) -> None:
    """Fills out (S, K, 3) with the volume that all nodes but one let through."""
    out[:] = 0.0
    for s in range(out.shape[0]):
        for stage in range(out.shape[1]):
            for n in range(held.shape[0]):
                if n != node:
                    for k in range(3):
                        out[s, stage, k] += seen.passed_mbit[s, stage, n, k, held[n, k]]


@compiled
def _sum_added(
    node: int, held: Ints, others: Floats, seen: Foreseen, terms: Terms, link: Carried, limit: float
) -> float:
    """As :func:`added`, summed over nodes, `others` (S, K, 3) let through by all but one; stops beyond `limit`."""
    total, wait = 0.0, np.empty((3, 3))
    volume, queue, left = np.empty(3), np.empty(3), np.empty(3)
    for s in range(others.shape[0] - 1, -1, -1):  # high loads first: they settle soonest that a split is too dear
        queue[:] = link.queue_mbit
        for stage in range(others.shape[1]):
            for k in range(3):
                volume[k] = others[s, stage, k] + seen.passed_mbit[s, stage, node, k, held[node, k]]
            length = link.lengths_s[stage]
            if queue.sum() == 0 and volume.sum() <= link.capacity_mbps * length:
                continue
            _pass(volume, queue, (link.capacity_mbps, length, link.buffer_mbit), wait, left)
            queue[:] = left
            for n in range(held.shape[0]):
                for k in range(3):
                    total += link.weights[s, stage] * _on_top((s, stage), n, k, held[n, k], wait, seen, terms)
        if total >= limit:
            return total
    return total


@compiled
def descend(
    rows: Ints, held: Ints, own: Floats, order: Ints, splits: Ints, seen: Foreseen, terms: Terms, link: Carried,
    work: int,
) -> tuple[float, int]:  # fmt: skip
    """See :func:`joint.settled`: changes rows (F,) and held (M, 3), returns the cost and the work that is left.

    The first F nodes choose: own (F, 525) is what each split costs a node by itself (infinite where not permitted),
    order (F, 525) its splits from the cheapest on. `work` counts splits tried, times nodes.
    """
    number, chance = held.shape[0], rows.shape[0]
    others = np.empty((*link.weights.shape, 3))
    _others(0, held, seen, others)
    best = _sum_added(0, held, others, seen, terms, link, np.inf)
    for n in range(chance):
        best += own[n, rows[n]]
    improved = True
    while improved and work > 0:
        improved = False
        for n in range(chance):
            _others(n, held, seen, others)
            apart = 0.0
            for m in range(chance):
                if m != n:
                    apart += own[m, rows[m]]
            kept = rows[n]
            for place in range(order.shape[1]):
                row = order[n, place]
                without = apart + own[n, row]
                # Waits only add to a cost: no later split can be cheaper.
                if without >= best - LEAST_GAIN or work <= 0:
                    break
                held[n] = splits[row]
                work -= number
                made = without + _sum_added(n, held, others, seen, terms, link, best - LEAST_GAIN - without)
                if made < best - LEAST_GAIN:
                    best, kept = made, row
            improved = improved or kept != rows[n]
            rows[n] = kept
            held[n] = splits[kept]
    return best, work
