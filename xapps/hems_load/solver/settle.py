"""From the solver's powers to a plan that every device can follow, and what it costs.

The solver's point is inside its bounds but only nearly on its equations. Here each home is followed step by step: a
storage is charged or discharged, never both, and never beyond its bounds; the meter imports or exports, never both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.layout import (
    COST,
    DRIFT,
    GAIN,
    KEEP,
    LARGEST,
    LARGEST_PRICE,
    LEAST,
    LEAST_PRICE,
    MOST,
    SEGMENTS,
    SIGMA,
    STORE_DATA,
)

__all__ = ["COST_PARTS", "settle"]

Array = NDArray[np.float64]

COST_PARTS = 5
ENERGY, WEAR, DISCOMFORT, PENALTY, END = range(COST_PARTS)
TOUCH_UP = 0.05
"""What of a missed target is the solver's tolerance and is made good, not a relaxation [kWh]; same for power [kW]."""
LEAST_KW = 1e-9
ROUNDS = 4
"""Passes over a home: what the meter eases in one step may move a bound in a later one."""


@compiled
def _charge(charge: float, high_kw: float, per_in: float, after: float, low: float, high: float) -> tuple[float, float]:
    """Inlet power and state once the device's own bounds are kept, or a bound nearly met is met."""
    if after > high and charge > 0.0:
        less = min(charge, (after - high) / per_in)
        return charge - less, after - per_in * less
    if 0.0 < low - after < TOUCH_UP and per_in > 0.0:
        more = min(high_kw - charge, (low - after) / per_in)
        return charge + more, after + per_in * more
    return charge, after


@compiled
def _discharge(discharge: float, per_out: float, after: float, low: float) -> tuple[float, float]:
    if after < low and discharge > 0.0:
        less = min(discharge, (after - low) / per_out)
        return discharge - less, after - per_out * less
    return discharge, after


@compiled
def _follow(
    wanted: Array,
    most: Array,
    gain: Array,
    start: float,
    keep: Array,
    drift: Array,
    low: Array,
    high: Array,
    hard: bool,
) -> None:
    """Hold the signed power `wanted` (T,) inside (2, T) `most` and the storage inside its bounds, in place.

    `gain` (2, T) is what one kW in or out adds to the state.
    """
    state = start
    for t in range(wanted.size):
        power = min(max(wanted[t], -most[1, t]), most[0, t])
        charge, discharge = max(power, 0.0), max(-power, 0.0)
        after = keep[t] * state + drift[t] + gain[0, t] * charge + gain[1, t] * discharge
        if hard:
            discharge, after = _discharge(discharge, gain[1, t], after, low[t])
            if discharge == 0.0:
                charge, after = _charge(charge, most[0, t], gain[0, t], after, low[t], high[t])
        wanted[t], state = charge - discharge, after


@compiled
def _states(power: Array, gain: Array, start: float, keep: Array, drift: Array, state: Array) -> None:
    before = start
    for t in range(power.size):
        gained = gain[0, t] * power[t] if power[t] > 0.0 else -gain[1, t] * power[t]
        before = keep[t] * before + drift[t] + gained
        state[t] = before


@compiled
def _ease(flows: Array, t: int, excess: float, sign: float) -> float:
    """Take up to `excess` kW off the storages' inlets (sign 1) or outlets (-1), in their order; how much was taken."""
    taken = 0.0
    for i in range(flows.shape[0]):
        less = min(max(sign * flows[i, t], 0.0), excess - taken)
        flows[i, t] -= sign * less
        taken += less
    return taken


@compiled
def _relieve(net: Array, generation: Array, flows: Array, limit_kw: float, export_kw: Array, contract: bool) -> bool:
    """Ease storages where all curtailment is not enough, and where the contract is missed by the solver's tolerance."""
    eased = False
    for t in range(net.size):
        beyond, over = -net[t] - generation[t] - export_kw[t], net[t] - limit_kw
        if beyond > LEAST_KW:
            net[t] += _ease(flows, t, beyond, -1.0)
            eased = True
        elif contract and LEAST_KW < over < TOUCH_UP:
            net[t] -= _ease(flows, t, over, 1.0)
            eased = True
    return eased


@compiled
def _curtail(net: Array, cut: Array, generation: Array, export_kw: Array, sell: Array) -> None:
    """What is curtailed, and the net power at the meter that is left, in place."""
    for t in range(net.size):
        cut[t] = 0.0
        if net[t] < 0.0:
            surplus = -net[t] if sell[t] < 0.0 else -net[t] - export_kw[t]
            cut[t] = min(max(surplus, 0.0), generation[t])
            net[t] += cut[t]


@compiled
def _energy(s: Any, h: int, net: Array, costs: Array, short: Array) -> None:
    """Cost of energy and of import beyond the contract, into `costs` (5,) and the last of `short`."""
    hours, buy, sell, limit = s.hours, s.buy[h], s.sell[h], s.limit_kw[h]
    energy, over = 0.0, 0.0
    for t in range(net.size):
        energy += hours[t] * net[t] * (buy[t] if net[t] > 0.0 else sell[t])
        over += hours[t] * max(net[t] - limit, 0.0)
    costs[ENERGY] += energy
    costs[PENALTY] += s.over * over
    short[-1] += over


@compiled
def _bounds(
    state: Array, low: tuple[Array, Array], high: tuple[Array, Array], hours: Array, hard: bool
) -> tuple[float, float]:
    """Cost of leaving the bounds (limits and prices), and by how much: times hours where they are a wish, not hard."""
    price, amount = 0.0, 0.0
    for t in range(state.size):
        under, above = max(low[0][t] - state[t], 0.0), max(state[t] - high[0][t], 0.0)
        price += low[1][t] * under + high[1][t] * above
        amount += (under + above) * (1.0 if hard else hours[t])
    return price, amount


@compiled
def _wear(power: Array, cost: Array) -> float:
    total = 0.0
    for t in range(power.size):
        total += abs(power[t]) * (cost[0, t] if power[t] > 0.0 else cost[1, t])
    return total


@compiled
def _row(values: Array, varies: bool, row: Array) -> None:
    """`values` (T,) into `row`; where they do not vary, the first of them."""
    for t in range(row.size):
        row[t] = values[t] if varies else values[0]


@compiled
def _limits(s: Any, j: int, h: int, most: Array, gain: Array, cost: Array) -> None:
    """Power, gain and cost (T,) of box `j` of home `h`; no power where it is absent."""
    varies = s.box_varies
    _row(s.sigma[j, h], varies[SIGMA, j], most)
    _row(s.high_kw[j, h], varies[MOST, j], cost)
    for t in range(most.size):
        most[t] = cost[t] * abs(most[t])
    _row(s.gain[j, h], varies[GAIN, j], gain)
    _row(s.cost[j, h], varies[COST, j], cost)


@compiled
def _storage(s: Any, i: int, h: int, own: Array) -> None:
    """Keep, drift, lower bound and price, upper bound and price (6, T) of storage `i` of home `h`."""
    varies = s.store_varies
    _row(s.keep[i, h], varies[KEEP, i], own[KEEP])
    _row(s.drift[i, h], varies[DRIFT, i], own[DRIFT])
    _row(s.low[i, h], varies[LEAST, i], own[LEAST])
    _row(s.price_low[i, h], varies[LEAST_PRICE, i], own[LEAST_PRICE])
    _row(s.high[i, h], varies[LARGEST, i], own[LARGEST])
    _row(s.price_high[i, h], varies[LARGEST_PRICE, i], own[LARGEST_PRICE])


@compiled
def _wanted(at: Any, power: Array, i: int, h: int, most: Array, own: Array) -> None:
    """Signed power that the boxes of storage `i` of home `h` ask for, none where a box is absent."""
    for t in range(own.size):
        own[t] = power[at[i] - SEGMENTS, h, t] if most[0, t] > 0.0 else 0.0
        if at[i + 1] - at[i] > 1 and most[1, t] > 0.0:
            own[t] -= power[at[i] + 1 - SEGMENTS, h, t]


@compiled
def settle(
    s: Any, at: Any, power: Array, flows: Array, states: Array, net: Array, cut: Array, costs: Array, short: Array
) -> None:
    """Hold the wanted `power` (J - 4, N, T) [kW] of each home's boxes inside all limits.

    `at` (n + 1,) first box of each storage. Fills flows (n, N, T) [kW, > 0 takes], states (n, N, T), net and cut (N, T)
    [kW] at the meter and curtailed, costs (N, 5) [EUR], short (N, n + 1) relaxed amounts, the meter's last.
    """
    n, homes, steps = states.shape
    most, gain, cost = np.zeros((n, 2, steps)), np.zeros((n, 2, steps)), np.zeros((n, 2, steps))
    own, bounds = np.zeros((n, steps)), np.zeros((n, STORE_DATA, steps))
    for h in range(homes):
        for i in range(n):
            _storage(s, i, h, bounds[i])
            for side in range(at[i + 1] - at[i]):
                _limits(s, at[i] + side, h, most[i, side], gain[i, side], cost[i, side])
            _wanted(at, power, i, h, most[i], own[i])
        for again in range(ROUNDS):
            net[h] = s.base_kw[h]
            for i in range(n):
                keep, drift, low, high = bounds[i, KEEP], bounds[i, DRIFT], bounds[i, LEAST], bounds[i, LARGEST]
                _follow(own[i], most[i], gain[i], s.start[i, h], keep, drift, low, high, s.hard[i])
                net[h] += own[i]
            if not _relieve(net[h], s.generation_kw[h], own, s.limit_kw[h], s.export_kw[h], again == 0):
                break
        _curtail(net[h], cut[h], s.generation_kw[h], s.export_kw[h], s.sell[h])
        _energy(s, h, net[h], costs[h], short[h])
        for i in range(n):
            flows[i, h] = own[i]
            _states(own[i], gain[i], s.start[i, h], bounds[i, KEEP], bounds[i, DRIFT], states[i, h])
            low, high = (bounds[i, LEAST], bounds[i, LEAST_PRICE]), (bounds[i, LARGEST], bounds[i, LARGEST_PRICE])
            price, amount = _bounds(states[i, h], low, high, s.hours, s.hard[i])
            costs[h, PENALTY if s.hard[i] else DISCOMFORT] += price
            short[h, i] += amount
            costs[h, WEAR] += _wear(own[i], cost[i])
            costs[h, END] -= s.end_cost[i, h] * states[i, h, steps - 1]
