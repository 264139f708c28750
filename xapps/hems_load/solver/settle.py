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
from xapps.hems_load.solver.compiled import compiled, inlined, summing
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
TALLY = 3
OUTSIDE, AMOUNT, WORN = range(TALLY)
"""Of `Settled.tally`: what it costs that bounds are left [EUR], by how much they are (times hours where they are a
wish), wear [EUR]."""
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
    tally: Array
    """(n, TALLY) of each storage."""

    @classmethod
    def room(cls, devices: Devices, steps: int) -> Settled:
        """For a home with such devices."""
        n = devices.kind.size
        sizes = ((n, steps), (n, steps), (steps,), (steps,), (steps,), (steps,), (n, TALLY))
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


@inlined
def _series(rows: Array, varies: Any, row: int) -> tuple[Array, int]:
    """A row, and how far its steps lie apart: 0 where the first holds for all."""
    return rows[row], 1 if varies[row] else 0


@inlined
def _at(series: tuple[Array, int], t: int) -> float:
    return float(series[0][t * series[1]])


@compiled
def _follow(hours: Array, devices: Any, i: int, rows: Array, start: float, held: bool, x: Any) -> None:
    """Follow the signed powers wanted of storage `i`: its states and its tally.

    Where `held`, powers are held inside their limits and the storage inside its bounds, in place.
    """
    at, varies, hard, wanted, state = devices.at, devices.varies, devices.hard[i], x.wanted_kw[i], x.state[i]
    store, inlet, outlet = store_row(at[-1], i, 0), box_row(at[i], 0), box_row(at[i + 1] - 1, 0)
    keep, drift = _series(rows, varies, store + KEEP), _series(rows, varies, store + DRIFT)
    low, low_price = _series(rows, varies, store + LEAST), _series(rows, varies, store + LEAST_PRICE)
    high, high_price = _series(rows, varies, store + LARGEST), _series(rows, varies, store + LARGEST_PRICE)
    most, gain, cost = (
        _series(rows, varies, inlet + MOST), _series(rows, varies, inlet + GAIN), _series(rows, varies, inlet + COST),
    )  # fmt: skip
    least, given, cost_out = (
        _series(rows, varies, outlet + MOST), _series(rows, varies, outlet + GAIN),
        _series(rows, varies, outlet + COST),
    )  # fmt: skip
    before, outside, amount, wear = start, 0.0, 0.0, 0.0
    for t in range(wanted.size):
        most_in, most_out, power = _at(most, t), _at(least, t), wanted[t]
        most_in, most_out = most_in if most_in > LEAST_KW else 0.0, most_out if most_out > LEAST_KW else 0.0
        if held:
            power = min(max(power, -most_out if inlet != outlet else 0.0), most_in)
        charge, discharge, per_in, per_out = max(power, 0.0), max(-power, 0.0), _at(gain, t), _at(given, t)
        after = _at(keep, t) * before + _at(drift, t) + per_in * charge + per_out * discharge
        if hard and held:
            discharge, after = _discharge(discharge, per_out, after, _at(low, t))
            if discharge == 0.0:
                charge, after = _charge(charge, most_in, per_in, after, _at(low, t), _at(high, t))
        under, above = max(_at(low, t) - after, 0.0), max(after - _at(high, t), 0.0)
        outside += _at(low_price, t) * under + _at(high_price, t) * above
        amount += (under + above) * (1.0 if hard else hours[t])
        wear += _at(cost, t) * charge + _at(cost_out, t) * discharge
        wanted[t], state[t], before = charge - discharge, after, after
    x.tally[i, OUTSIDE], x.tally[i, AMOUNT], x.tally[i, WORN] = outside, amount, wear


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


@compiled
def _follow_all(hours: Array, devices: Any, rows: Array, ends: Array, x: Any, limit_kw: float) -> None:
    """Powers, states and net power that every device can follow."""
    net = x.net_kw
    for again in range(ROUNDS):
        copy(rows[BASE_KW], net)
        for i in range(devices.kind.size):
            wanted = x.wanted_kw[i]
            _follow(hours, devices, i, rows, ends[i, START], True, x)
            for t in range(net.size):
                net[t] += wanted[t]
        if not _relieve(rows, net, x.wanted_kw, limit_kw, again == 0):
            return
    for i in range(devices.kind.size):
        _follow(hours, devices, i, rows, ends[i, START], False, x)


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
    over_row = box_row(OVER, COST)
    _row(rows, over_row, devices.varies[over_row], x.dear)
    _follow_all(c.hours, devices, rows, ends, x, limit_kw)
    _curtail(rows, x.net_kw, x.cut_kw)
    energy, over = _energy(c.hours, x.net_kw, rows[BUY], rows[SELL], limit_kw)
    fill(costs, 0.0)
    costs[ENERGY], costs[PENALTY], plans.relaxed[CONTRACT, h] = energy, c.over * over, over
    for i in range(devices.kind.size):
        costs[PENALTY if devices.hard[i] else DISCOMFORT] += x.tally[i, OUTSIDE]
        plans.relaxed[devices.kind[i], h] += x.tally[i, AMOUNT]
        costs[WEAR] += x.tally[i, WORN]
        costs[END] -= ends[i, END_COST] * x.state[i, -1]
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
