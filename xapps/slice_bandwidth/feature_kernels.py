"""Compiled: an actor's feature rows from what is seen and what is foreseen. `rl_agent.py` says what columns mean."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.kernels import SLOT_MBPS, Links, Terms, compiled
from xapps.slice_bandwidth.model import CALENDAR_SLOTS

__all__ = ["BASE_LIMIT", "FEATURES", "LIMIT", "NEWEST", "Coming", "Node", "feature_rows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

FEATURES = 37
"""Columns of a feature row."""
CONTEXT = 16
"""Where the columns begin that are the same for every slot count."""
LIMIT, BASE_LIMIT = 10.0, 30.0
"""Largest |value| of a column, and largest expected cost."""
LOW, MIDDLE, HIGH = 0, 2, 5
"""Scenarios that the rows show one by one: quantiles 0.05, 0.45 and 0.95."""
NEWEST = 4
"""Periods of load that the rows look back."""
LEAST_COUNT = 0.2
"""What no slot counts as where a load is held against a capacity [slot]."""
LONGEST, WIDEST = 5.0, 4.0
"""Where shares of a capacity, and logarithms of them, are cut."""


class Coming(NamedTuple):
    """What is foreseen: stages (K, S, N, C, 3) and left (S, N, C, 3) of `kernels.foreseen`, loads (2, S, N, 3)."""

    stages: Floats
    left: Floats
    loads: Floats
    masses: Floats
    """(S,): probability of each scenario."""
    blend: Floats
    """(K,): weight of each stage."""


class Node(NamedTuple):
    """What is seen of N nodes: newest loads (N, NEWEST, 3), figures (N, 3), period and alarm (N,)."""

    newest_mbps: Floats
    queue_mbit: Floats
    delay_ms: Floats
    jitter_ms: Floats
    slots: NDArray[np.int64]
    period_s: Floats
    alarm: Floats
    links: Links


@compiled
def _cut(value: float, limit: float) -> float:
    """`value` within `limit` of 0."""
    return min(max(value, -limit), limit)


@compiled
def _whole(newest_mbps: Floats, ago: int) -> float:
    """Load of the whole link [Mb/s] so many periods ago, of loads (NEWEST, 3)."""
    row = newest_mbps[NEWEST - 1 - ago]
    return float(row[0] + row[1] + row[2])


@compiled
def _of_node(node: Node, terms: Terms, n: int, out: Rows) -> None:
    """Columns 19-25: alarm, form of the third term, period, price of moves, slots to spare, whole load and its rise."""
    spare = CALENDAR_SLOTS - node.slots[n, 0] - node.slots[n, 1] - node.slots[n, 2]
    whole = _whole(node.newest_mbps[n], 0)
    out[0], out[1] = node.alarm[n], terms.shortfall[n]
    out[2] = math.log10(node.period_s[n] / 0.1)
    out[3] = terms.slot_move_cost[n] * 10
    out[4] = spare / CALENDAR_SLOTS
    out[5] = whole / (CALENDAR_SLOTS * SLOT_MBPS)
    out[6] = (whole - _whole(node.newest_mbps[n], 1)) / SLOT_MBPS


@compiled
def _of_slice(node: Node, terms: Terms, n: int, k: int, out: Rows) -> None:
    """Columns 26-36: weights; logarithms of prices, delays against limits, burst; part of a slot in the mean load."""
    d_max, weights = terms.d_max_ms[n, k], terms.weights[n, k]
    for term in range(3):
        out[term] = weights[term]
    out[3] = math.log1p(terms.violation_cost[n, k])
    out[4] = math.log1p(node.delay_ms[n, k] / d_max)
    out[5] = math.log1p(node.jitter_ms[n, k] / terms.j_max_ms[n, k])
    out[6] = math.log1p(weights[2] * SLOT_MBPS / terms.b_min_mbps[n, k])
    out[7] = math.log1p(1e3 * weights[0] / d_max)
    out[8] = math.log1p(node.links.base_delay_ms[n, k] / d_max)
    out[9] = math.log(node.links.burst_mbit[n, k])
    total = 0.0
    for t in range(NEWEST):
        total += node.newest_mbps[n, t, k]
    slots = total / (NEWEST * SLOT_MBPS)
    out[10] = slots - math.floor(slots)


@compiled
def _of_counts(coming: Coming, node: Node, terms: Terms, at: tuple[int, int], out: Rows) -> None:
    """Columns 0-15 of a node's slice `at` on every slot count."""
    n, k = at
    stages, left, loads = coming.stages, coming.left, coming.loads
    d_max_s, move_cost = terms.d_max_ms[n, k] / 1e3, terms.slot_move_cost[n]
    drained, held = node.queue_mbit[n, k] / node.period_s[n], node.slots[n, k]
    last = math.log2(node.newest_mbps[n, NEWEST - 1, k] + 1.0)
    low, middle, high = (math.log2(loads[0, LOW, n, k] + 1.0), math.log2(loads[0, MIDDLE, n, k] + 1.0),
                         math.log2(loads[0, HIGH, n, k] + 1.0))  # fmt: skip
    for count in range(out.shape[1]):
        blended = 0.0
        for stage in range(stages.shape[0]):
            expected = 0.0
            for s in range(stages.shape[1]):
                expected += coming.masses[s] * stages[stage, s, n, count, k]
            blended += coming.blend[stage] * expected
            out[n, count, k, 1 + stage] = math.log(1 + expected)
        out[n, count, k, 0] = min(blended, BASE_LIMIT)
        out[n, count, k, 4] = math.log(1 + stages[0, LOW, n, count, k])
        out[n, count, k, 5] = math.log(1 + stages[0, HIGH, n, count, k])
        capacity = max(float(count), LEAST_COUNT) * SLOT_MBPS
        out[n, count, k, 6] = min(left[MIDDLE, n, count, k] / (capacity * d_max_s), LONGEST)
        out[n, count, k, 7] = min(left[HIGH, n, count, k] / (capacity * d_max_s), LONGEST)
        logarithm = math.log2(capacity)
        out[n, count, k, 8] = _cut(last - logarithm, WIDEST)
        out[n, count, k, 9] = _cut(low - logarithm, WIDEST)
        out[n, count, k, 10] = _cut(middle - logarithm, WIDEST)
        out[n, count, k, 11] = _cut(high - logarithm, WIDEST)
        out[n, count, k, 12] = min(drained / capacity, LONGEST)
        out[n, count, k, 13] = (count - held) / CALENDAR_SLOTS
        out[n, count, k, 14] = abs(count - held) * move_cost
        out[n, count, k, 15] = count / CALENDAR_SLOTS


@compiled
def feature_rows(coming: Coming, node: Node, terms: Terms, out: Rows) -> None:
    """See :func:`rl_agent.features`: fills out (N, C, 3, FEATURES)."""
    context = np.empty(FEATURES - CONTEXT, dtype=np.float32)
    for n in range(out.shape[0]):
        _of_node(node, terms, n, context[3:])
        for k in range(3):
            for other in range(3):
                context[other] = other == k
            _of_slice(node, terms, n, k, context[10:])
            _of_counts(coming, node, terms, (n, k), out)
            for count in range(out.shape[1]):
                for column in range(1, CONTEXT):
                    out[n, count, k, column] = _cut(out[n, count, k, column], LIMIT)
                for place in range(context.shape[0]):
                    out[n, count, k, CONTEXT + place] = _cut(context[place], LIMIT)
