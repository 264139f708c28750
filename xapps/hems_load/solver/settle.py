"""From the solver's powers to a plan that every device can follow, and what it costs.

The solver's point is inside its bounds but only nearly on its equations. Here a home is followed step by step: a
storage is charged or discharged, never both, and never beyond its bounds; the meter imports or exports, never both.
`rows` (rows, T) and `ends` (n, 2) are the home as `pose_home` leaves it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.columns import LIMIT_KW
from xapps.hems_load.solver.compiled import compiled, summing
from xapps.hems_load.solver.layout import (
    BOX_DATA,
    COST,
    DRIFT,
    GAIN,
    KEEP,
    LARGEST,
    LARGEST_PRICE,
    LEAST,
    LEAST_PRICE,
    MOST,
    STORE_DATA,
)
from xapps.hems_load.solver.storages import (
    APPLIANCE,
    BASE_KW,
    BUY,
    END_COST,
    EXPORT_KW,
    GENERATED_KW,
    LEAST_KW,
    OVER,
    RUN_KW,
    SELL,
    START,
    WIND_KW,
    Devices,
    box_row,
    copy,
    fill,
    place_load,
    pose_home,
    store_row,
)

__all__ = ["COLUMNS", "COST_PARTS", "RELAXED", "Plans", "Settled", "project_homes", "settle_home"]

Array = NDArray[np.float64]

COLUMNS = 11
NET, PV, WIND, PRICE, RUNS, POWER, _, _, STATE, _, _ = range(COLUMNS)
"""Of `Plans.columns`; from POWER and STATE on, those of battery, EV, heat pump."""
COST_PARTS = 5
ENERGY, WEAR, DISCOMFORT, PENALTY, END = range(COST_PARTS)
RELAXED = 5
CONTRACT = 4
"""Of `Plans.relaxed`, after those of the kinds of storages."""
TOUCH_UP = 0.05
"""What of a missed target is the solver's tolerance and is made good, not a relaxation [kWh]; same for power [kW]."""
TINY_KW = 1e-9
OWN = STORE_DATA + 2 * BOX_DATA
INLET, OUTLET = STORE_DATA, STORE_DATA + BOX_DATA
"""Of `Settled.own`: after the storage's data those of its boxes; of one without an outlet the inlet's, powerless."""
ROUNDS = 4
"""Passes over a home: what the meter eases in one step may move a bound in a later one."""


class Plans(NamedTuple):
    """The plans of N homes, to be filled home by home."""

    columns: Array
    """(COLUMNS, N, T) [kW], [EUR/kWh], states."""
    appliance_kw: Array
    """(N, K, T)"""
    starts: NDArray[np.int64]
    """(N, R)"""
    costs: Array
    """(N, COST_PARTS) [EUR]"""
    relaxed: Array
    """(RELAXED, N) [kWh], [K h]; zero before."""
    price: NDArray[np.float32]
    """(N, T) [EUR/kWh] as in the columns."""
    taken: NDArray[np.int64]
    """(N,) Newton steps."""


class Settled(NamedTuple):
    """One home while it is settled; arrays (T,) unless said otherwise."""

    wanted_kw: Array
    """(n, T) what each storage is to take (> 0) or give, then what it does."""
    state: Array
    """(n, T) at the end of each step."""
    net_kw: Array
    cut_kw: Array
    price: Array
    """[EUR/kWh]"""
    dear: Array
    """[EUR/kW] over the step, of import beyond the contract."""
    own: Array
    """(n, OWN, T) data of each storage and its boxes, all steps spelt out; no power where a box is absent."""

    @classmethod
    def room(cls, devices: Devices, steps: int) -> Settled:
        """For a home with such devices."""
        n = devices.kind.size
        sizes = ((n, steps), (n, steps), (steps,), (steps,), (steps,), (steps,), (n, OWN, steps))
        return cls._make(np.zeros(size) for size in sizes)


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
def _row(rows: Array, row: int, varies: bool, into: Array) -> None:
    if varies:
        copy(rows[row], into)
    else:
        fill(into, rows[row, 0])


@compiled
def _spell_out(devices: Any, rows: Array, x: Any) -> None:
    at, varies = devices.at, devices.varies
    _row(rows, box_row(OVER, COST), varies[box_row(OVER, COST)], x.dear)
    for i in range(devices.kind.size):
        own, first, boxes = x.own[i], store_row(at[-1], i, 0), at[i + 1] - at[i]
        for part in range(STORE_DATA):
            _row(rows, first + part, varies[first + part], own[part])
        for side in range(2):
            first, limit = box_row(at[i] + min(side, boxes - 1), 0), own[INLET + side * BOX_DATA + MOST]
            for part in range(BOX_DATA):
                _row(rows, first + part, varies[first + part], own[INLET + side * BOX_DATA + part])
            for t in range(limit.size):
                limit[t] = limit[t] if limit[t] > LEAST_KW and side < boxes else 0.0


@compiled
def _follow(wanted: Array, own: Array, start: float, hard: bool, state: Array) -> None:
    """Hold the signed power `wanted` (T,) inside the limits and the storage inside its bounds, in place; its states.

    `own` (OWN, T) is the storage's.
    """
    most, least, gain, given = own[INLET + MOST], own[OUTLET + MOST], own[INLET + GAIN], own[OUTLET + GAIN]
    before = start
    for t in range(wanted.size):
        power = min(max(wanted[t], -least[t]), most[t])
        charge, discharge = max(power, 0.0), max(-power, 0.0)
        after = own[KEEP, t] * before + own[DRIFT, t] + gain[t] * charge + given[t] * discharge
        if hard:
            discharge, after = _discharge(discharge, given[t], after, own[LEAST, t])
            if discharge == 0.0:
                charge, after = _charge(charge, most[t], gain[t], after, own[LEAST, t], own[LARGEST, t])
        wanted[t], before = charge - discharge, after
        state[t] = after


@compiled
def _states(power: Array, own: Array, start: float, state: Array) -> None:
    """What follows from the powers, bounds or no bounds."""
    before, gain, given = start, own[INLET + GAIN], own[OUTLET + GAIN]
    for t in range(power.size):
        gained = gain[t] * power[t] if power[t] > 0.0 else -given[t] * power[t]
        before = own[KEEP, t] * before + own[DRIFT, t] + gained
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
def _relieve(rows: Array, net: Array, flows: Array, limit_kw: float, contract: bool) -> bool:
    """Ease storages where all curtailment is not enough, and where the contract is missed by the solver's tolerance."""
    eased, generation, export_kw = False, rows[GENERATED_KW], rows[EXPORT_KW]
    for t in range(net.size):
        beyond, over = -net[t] - generation[t] - export_kw[t], net[t] - limit_kw
        if beyond > TINY_KW:
            net[t] += _ease(flows, t, beyond, -1.0)
            eased = True
        elif contract and TINY_KW < over < TOUCH_UP:
            net[t] -= _ease(flows, t, over, 1.0)
            eased = True
    return eased


@compiled
def _curtail(rows: Array, net: Array, cut: Array) -> None:
    """What is curtailed, and the net power at the meter that is left, in place."""
    generation, export_kw, sell = rows[GENERATED_KW], rows[EXPORT_KW], rows[SELL]
    for t in range(net.size):
        surplus = -net[t] if sell[t] < 0.0 else -net[t] - export_kw[t]
        cut[t] = min(max(surplus, 0.0), generation[t]) if net[t] < 0.0 else 0.0
        net[t] += cut[t]


@summing
def _energy(hours: Array, net: Array, buy: Array, sell: Array, limit_kw: float) -> tuple[float, float]:
    """Cost of energy [EUR] and import beyond the contract [kWh]."""
    energy, over = 0.0, 0.0
    for t in range(net.size):
        energy += hours[t] * net[t] * (buy[t] if net[t] > 0.0 else sell[t])
        over += hours[t] * max(net[t] - limit_kw, 0.0)
    return energy, over


@summing
def _outside(state: Array, own: Array) -> float:
    """Cost of leaving the bounds."""
    price = 0.0
    for t in range(state.size):
        under, above = max(own[LEAST, t] - state[t], 0.0), max(state[t] - own[LARGEST, t], 0.0)
        price += own[LEAST_PRICE, t] * under + own[LARGEST_PRICE, t] * above
    return price


@summing
def _amount(state: Array, own: Array, hours: Array, hard: bool) -> float:
    """By how much bounds are left: times hours where they are a wish."""
    amount = 0.0
    for t in range(state.size):
        outside = max(own[LEAST, t] - state[t], 0.0) + max(state[t] - own[LARGEST, t], 0.0)
        amount += outside if hard else outside * hours[t]
    return amount


@summing
def _wear(power: Array, cost_in: Array, cost_out: Array) -> float:
    total = 0.0
    for t in range(power.size):
        total += abs(power[t]) * (cost_in[t] if power[t] > 0.0 else cost_out[t])
    return total


@compiled
def _follow_all(devices: Any, rows: Array, ends: Array, x: Any, limit_kw: float) -> None:
    """Powers, states and net power that every device can follow."""
    net = x.net_kw
    for again in range(ROUNDS):
        copy(rows[BASE_KW], net)
        for i in range(devices.kind.size):
            wanted = x.wanted_kw[i]
            _follow(wanted, x.own[i], ends[i, START], devices.hard[i], x.state[i])
            for t in range(net.size):
                net[t] += wanted[t]
        if not _relieve(rows, net, x.wanted_kw, limit_kw, again == 0):
            return
    for i in range(devices.kind.size):
        _states(x.wanted_kw[i], x.own[i], ends[i, START], x.state[i])


@compiled
def _of_kind(devices: Any, kind: int) -> int:
    """The first storage of this kind, -1 where there is none."""
    for i in range(devices.kind.size):
        if devices.kind[i] == kind:
            return i
    return -1


@compiled
def _write(c: Any, devices: Any, h: int, rows: Array, x: Any, plans: Any) -> None:
    """The home's columns."""
    columns, net, cut, blows, made = plans.columns, x.net_kw, x.cut_kw, rows[WIND_KW], rows[GENERATED_KW]
    copy(net, columns[NET, h])
    pv, wind = columns[PV, h], columns[WIND, h]
    for t in range(net.size):
        wind[t] = blows[t] - min(cut[t], blows[t])
    for t in range(net.size):
        pv[t] = made[t] - cut[t] - wind[t]
    copy(rows[RUN_KW], columns[RUNS, h])
    for kind in range(APPLIANCE):
        own = _of_kind(devices, kind)
        if own >= 0:
            copy(x.wanted_kw[own], columns[POWER + kind, h])
            copy(x.state[own], columns[STATE + kind, h])
        else:
            fill(columns[POWER + kind, h], 0.0)
            fill(columns[STATE + kind, h], 0.0)
    first, slots = _of_kind(devices, APPLIANCE), plans.appliance_kw[h]
    for slot in range(slots.shape[0]):
        if first >= 0:
            copy(x.wanted_kw[first + slot], slots[slot])
        else:
            fill(slots[slot], 0.0)
    price = columns[PRICE, h]
    for t in range(net.size):
        dearest = x.dear[t] / c.hours[t]
        price[t] = min(max(x.price[t], -dearest), dearest)
    for t in range(net.size):
        plans.price[h, t] = price[t]


@compiled
def settle_home(c: Any, devices: Any, h: int, rows: Array, ends: Array, x: Any, plans: Any) -> None:
    """Hold the wanted powers of home `h` inside all limits; its plan, costs and relaxed amounts go to `plans`.

    `x` is a `Settled` with `wanted_kw` and `price`. A price is held to that of import beyond the contract, at which one
    more kWh can always be had: where nothing may flow the solver's multiplier is any number.
    """
    limit_kw, costs = c.traits[h, LIMIT_KW], plans.costs[h]
    _spell_out(devices, rows, x)
    _follow_all(devices, rows, ends, x, limit_kw)
    _curtail(rows, x.net_kw, x.cut_kw)
    energy, over = _energy(c.hours, x.net_kw, rows[BUY], rows[SELL], limit_kw)
    fill(costs, 0.0)
    costs[ENERGY], costs[PENALTY], plans.relaxed[CONTRACT, h] = energy, c.over * over, over
    for i in range(devices.kind.size):
        own, state, hard = x.own[i], x.state[i], devices.hard[i]
        costs[PENALTY if hard else DISCOMFORT] += _outside(state, own)
        plans.relaxed[devices.kind[i], h] += _amount(state, own, c.hours, hard)
        costs[WEAR] += _wear(x.wanted_kw[i], own[INLET + COST], own[OUTLET + COST])
        costs[END] -= ends[i, END_COST] * state[-1]
    _write(c, devices, h, rows, x, plans)


@compiled
def project_homes(
    c: Any, devices: Any, posed: Any, x: Any, homes: Any, power: Any, appliances: Array, price: Array, plans: Any
) -> None:
    """Settle the wanted `power` (P, T) of battery, EV, heat pump, and of the `appliances` (P, K, T), of P `homes`.

    Runs start where `plans.starts` has them; `price` (P, T) [EUR/kWh] is handed on.
    """
    rows, ends = posed.rows[0], posed.ends[0]
    for e, h in enumerate(homes):
        place_load(c, h, plans.starts[h], rows[RUN_KW])
        pose_home(c, devices, h, rows, ends)
        for i in range(devices.kind.size):
            kind = devices.kind[i]
            copy(appliances[e, devices.slot[i]] if kind == APPLIANCE else power[kind][e], x.wanted_kw[i])
        copy(price[e], x.price)
        settle_home(c, devices, h, rows, ends, x, plans)
