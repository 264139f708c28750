"""A home's problem as the solver sees it: every device a storage with an inlet, some with an outlet, behind one meter.

Battery and EV have both, heat pump (its storage is the room's warmth) and interruptible appliance (energy served) an
inlet alone. Four segments make the meter's convex tariff: import within the contract, beyond it, export, curtailment.
A box without power keeps LEAST_KW, so that no bounds meet; `settle` takes it for none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver import columns as of
from xapps.hems_load.solver.columns import Columns
from xapps.hems_load.solver.compiled import compiled, spliced
from xapps.hems_load.solver.layout import (
    BOX_DATA,
    COST,
    CURVE,
    DRIFT,
    GAIN,
    KEEP,
    LARGEST,
    LARGEST_PRICE,
    LEAST,
    LEAST_PRICE,
    MOST,
    SEGMENTS,
    STORE_DATA,
)
from xapps.hems_load.solver.runs import add_run

__all__ = ["Devices", "Posed", "box_row", "copy", "fill", "place_load", "pose_home", "store_row"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IMPORT, OVER, EXPORT, CURTAIL = range(SEGMENTS)
BATTERY, EV, PUMP, APPLIANCE = range(4)
"""Kinds of storages."""
NAMES = ("battery", "ev", "heat_pump", "appliances")
MOST_OVER_KW = 1e3
CURTAIL_EUR_PER_KWH = 1e-5
"""Of two equal plans the one that curtails less."""
LEAST_KW = 1e-4
"""A device with no more power than this is absent."""
PRICE_GAP = 1e-4
"""Least difference of import and export price [EUR/kWh]: without one, both could flow at once."""
NO_KWH = -1.0
"""A bound that never binds an appliance."""
# Rows of the meter in a posed home: load less generation, what may be curtailed and the wind's part of it, tariffs
# without the fleet's price, most export, load of the runs.
METER_DATA = 7
BASE_KW, GENERATED_KW, WIND_KW, BUY, SELL, EXPORT_KW, RUN_KW = range(METER_DATA)
START, END_COST = range(2)


class Devices(NamedTuple):
    """The storages of homes that have the same kinds of devices."""

    kind: Ints
    """(n,)"""
    slot: Ints
    """(n,) of an appliance."""
    at: Ints
    """(n + 1,) first box of each storage, inlet before outlet; the last entry is the number of boxes."""
    hard: NDArray[np.bool_]
    """(n,) whether the bounds are the device's own (battery, EV, appliance), not a wish (room)."""
    varies: NDArray[np.bool_]
    """(rows,) whether a row of a posed home differs from step to step; where not, its first step holds for all."""

    @classmethod
    def of(cls, c: Columns, kinds: tuple[str, ...]) -> Devices:
        """Of homes with `kinds` of devices; where appliances are among them, of as many as `c` has."""
        moving = tuple(name for name in _SERIES if getattr(c, name).shape[1] > 1)
        return _devices(kinds, c.appliance_kw.shape[1], c.even, moving)


_SERIES = (
    "pv_kw", "wind_kw", "buy", "sell", "export_kw", "price", "curvature", "here", "trip_kwh", "left", "warm_c_per_kw",
    "drift_c", "low_c", "high_c", "discomfort",
)  # fmt: skip


@lru_cache(maxsize=256)
def _devices(kinds: tuple[str, ...], appliances: int, even: bool, moving: tuple[str, ...]) -> Devices:
    own = [(NAMES.index(name), 0) for name in kinds if name != "appliances"]
    own += [(APPLIANCE, slot) for slot in range(appliances if "appliances" in kinds else 0)]
    kind = np.array([code for code, _ in own], dtype=np.int64)
    slot = np.array([slot for _, slot in own], dtype=np.int64)
    at = (SEGMENTS + np.concatenate([[0], np.cumsum(np.where(kind <= EV, 2, 1))])).astype(np.int64)
    return Devices(kind, slot, at, kind != PUMP, _varying(even, moving, kind, at))


class Posed(NamedTuple):
    """A few homes in the solver's form, in double precision."""

    rows: Floats
    """(E, rows, T): those of the meter, then `box_row`, then `store_row`."""
    ends: Floats
    """(E, n, 2) of each storage: state now, cost at the end of the horizon [EUR per unit]."""

    @classmethod
    def room(cls, homes: int, devices: Devices, steps: int) -> Posed:
        """For so many homes at a time."""
        n = devices.kind.size
        rows = METER_DATA + int(devices.at[-1]) * BOX_DATA + n * STORE_DATA
        return cls(np.zeros((homes, rows, steps)), np.zeros((homes, n, 2)))


@spliced
def box_row(j: int, part: int) -> int:
    """Row of a box's datum in a posed home: cost [EUR/kW], gain per kW, most power [kW], over the step."""
    return METER_DATA + j * BOX_DATA + part


@spliced
def store_row(boxes: int, i: int, part: int) -> int:
    """Row of a storage's datum: share kept, drift, bounds at the step's end, their prices [EUR per unit]."""
    return METER_DATA + boxes * BOX_DATA + i * STORE_DATA + part


def _varying(even: bool, moving: tuple[str, ...], kinds: Ints, at: Ints) -> NDArray[np.bool_]:
    """(rows,) which rows of a posed home differ from step to step."""
    uneven = not even

    def moves(*series: str) -> bool:
        return any(name in moving for name in series)

    boxes = int(at[-1])
    result = np.zeros(METER_DATA + boxes * BOX_DATA + kinds.size * STORE_DATA, dtype=np.bool_)
    result[:METER_DATA] = True
    dear, cheap = uneven or moves("buy", "price"), uneven or moves("sell", "buy", "price")
    limits = (False, False, moves("export_kw"), moves("pv_kw", "wind_kw"))
    for j, (tariff, limit) in enumerate(zip((dear, dear, cheap, uneven), limits, strict=True)):
        result[box_row(j, COST)], result[box_row(j, MOST)] = tariff, limit
    result[box_row(IMPORT, CURVE)] = uneven or moves("curvature")
    # Of each kind of storage: most power and gain of its boxes; keep, drift, lower bound and price, upper and price.
    discomfort = uneven or moves("discomfort")
    by_kind = {
        BATTERY: ((False, uneven), (False, False, False, False, False, False)),
        EV: ((moves("here"), uneven), (False, moves("trip_kwh"), True, True, False, False)),
        PUMP: (
            (False, moves("warm_c_per_kw")),
            (moves("left"), moves("drift_c"), moves("low_c"), discomfort, moves("high_c"), discomfort),
        ),
        APPLIANCE: ((True, uneven), (False, False, True, True, False, False)),
    }
    for i, kind in enumerate(kinds.tolist()):
        (most, gain), of_store = by_kind[kind]
        for j in range(int(at[i]), int(at[i + 1])):
            result[box_row(j, COST)] = uneven
            result[box_row(j, GAIN)], result[box_row(j, MOST)] = gain, most
        for part, differs in enumerate(of_store):
            result[store_row(boxes, i, part)] = differs
    return result


@compiled
def fill(into: Floats, number: float) -> None:
    """The same in all steps."""
    for t in range(into.size):
        into[t] = number


@compiled
def copy(values: Floats, into: Floats) -> None:
    """Step by step: quicker than an assignment, which asks first whether both overlap."""
    for t in range(into.size):
        into[t] = values[t]


@compiled
def _copy(series: Floats, home: int, into: Floats) -> None:
    """The `home`'s row of a series."""
    own = series[home if series.shape[0] > 1 else 0]
    if own.size == into.size:
        for t in range(into.size):
            into[t] = own[t]
    else:
        fill(into, own[0])


@compiled
def _copy_moving(series: Floats, home: int, into: Floats) -> None:
    """The `home`'s row of a series; where it is the same in all steps, to the first alone."""
    own = series[home if series.shape[0] > 1 else 0]
    for t in range(own.size):
        into[t] = own[t]


@compiled
def _times(values: Floats, factor: float, into: Floats) -> None:
    for t in range(into.size):
        into[t] = factor * values[t]


@compiled
def _per_hour(c: Any, number: float, into: Floats) -> None:
    """What `number` per hour is in each step; where these are even, in the first alone."""
    for t in range(1 if c.even else into.size):
        into[t] = c.hours[t] * number


@compiled
def _at_least(least: float, into: Floats) -> None:
    for t in range(into.size):
        into[t] = max(into[t], least)


@compiled
def _pose_meter(c: Any, h: int, rows: Floats) -> None:
    """The meter's rows and segments; RUN_KW is there."""
    base, made, wind, sell = rows[BASE_KW], rows[GENERATED_KW], rows[WIND_KW], rows[SELL]
    _copy(c.load_kw, h, base)
    _copy(c.pv_kw, h, made)
    _copy(c.wind_kw, h, wind)
    for t in range(base.size):
        made[t] += wind[t]
    for t in range(base.size):
        base[t] += rows[RUN_KW, t] - made[t]
    _copy(c.buy, h, rows[BUY])
    _copy(c.sell, h, sell)
    for t in range(base.size):
        sell[t] = min(sell[t], rows[BUY, t] - PRICE_GAP)
    _copy(c.export_kw, h, rows[EXPORT_KW])
    limit = max(c.traits[h, of.LIMIT_KW], LEAST_KW)
    price = rows[box_row(OVER, GAIN)]  # of no use there
    _copy(c.price, h, price)
    dear, dearer, sale = rows[box_row(IMPORT, COST)], rows[box_row(OVER, COST)], rows[box_row(EXPORT, COST)]
    for t in range(base.size):
        dear[t] = c.hours[t] * (rows[BUY, t] + price[t])
    for t in range(base.size):
        dearer[t] = dear[t] + c.hours[t] * c.over
    for t in range(base.size):
        sale[t] = -c.hours[t] * (sell[t] + price[t])
    curve, rise = rows[box_row(IMPORT, CURVE)], c.curvature[h if c.curvature.shape[0] > 1 else 0]
    for t in range(1 if c.even and rise.size == 1 else curve.size):
        curve[t] = c.hours[t] * rise[t if rise.size > 1 else 0]
    _per_hour(c, CURTAIL_EUR_PER_KWH, rows[box_row(CURTAIL, COST)])
    rows[box_row(IMPORT, MOST), 0] = limit
    rows[box_row(OVER, MOST), 0] = MOST_OVER_KW
    sold, cut = rows[box_row(EXPORT, MOST)], rows[box_row(CURTAIL, MOST)]
    for t in range(base.size):
        sold[t] = max(rows[EXPORT_KW, t], LEAST_KW)
    for t in range(base.size):
        cut[t] = max(made[t], LEAST_KW)


@compiled
def _pose_box(c: Any, j: int, rows: Floats, most: float, cost: float, gain: float) -> None:
    """A box whose limit, cost per kWh and gain per kWh are the same in all steps."""
    _per_hour(c, cost, rows[box_row(j, COST)])
    _per_hour(c, gain, rows[box_row(j, GAIN)])
    rows[box_row(j, MOST), 0] = max(most, LEAST_KW)


@compiled
def _pose_bounds(rows: Floats, first: int, low: float, price_low: float, high: float, price_high: float) -> None:
    """A storage that keeps all it holds, with bounds the same in all steps; `first` is its first row."""
    rows[first + KEEP, 0] = 1.0
    rows[first + DRIFT, 0] = 0.0
    rows[first + LEAST, 0] = low
    rows[first + LEAST_PRICE, 0] = price_low
    rows[first + LARGEST, 0] = high
    rows[first + LARGEST_PRICE, 0] = price_high


@compiled
def _pose_battery(c: Any, h: int, rows: Floats, ends: Floats, j: int, first: int) -> None:
    b = c.traits[h]
    _pose_box(c, j, rows, b[of.BATTERY_IN_KW], b[of.BATTERY_WEAR], b[of.BATTERY_IN])
    _pose_box(c, j + 1, rows, b[of.BATTERY_OUT_KW], b[of.BATTERY_WEAR], -1.0 / b[of.BATTERY_OUT])
    low = min(b[of.BATTERY_FLOOR], b[of.BATTERY_NOW])
    _pose_bounds(rows, first, low, c.bound, b[of.BATTERY_MOST], c.bound)
    ends[START], ends[END_COST] = b[of.BATTERY_NOW], -b[of.BATTERY_END]


@compiled
def _pose_ev(c: Any, h: int, rows: Floats, ends: Floats, j: int, first: int) -> None:
    """The EV: its lower bound is the target where one is wanted, else the floor.

    The floor is one that holds whatever is done: what cannot be reached, or what driving takes, is no relaxation.
    """
    ev = c.traits[h]
    _pose_box(c, j, rows, 0.0, 0.0, ev[of.EV_IN])
    _pose_box(c, j + 1, rows, 0.0, ev[of.EV_WEAR], -1.0 / ev[of.EV_OUT])
    _pose_bounds(rows, first, 0.0, c.bound, ev[of.EV_MOST], c.bound)
    ends[START], ends[END_COST] = ev[of.EV_NOW], -ev[of.EV_END]
    charge, discharge = rows[box_row(j, MOST)], rows[box_row(j + 1, MOST)]
    drift, low, rho = rows[first + DRIFT], rows[first + LEAST], rows[first + LEAST_PRICE]
    _copy(c.here, h, charge)
    _copy(c.trip_kwh, h, drift)
    _copy(c.floor_kwh, h, low)
    fill(rho, c.bound)
    wanted = c.target_kwh[h if c.target_kwh.shape[0] > 1 else 0]
    stored, capacity, reach, idle = ev[of.EV_IN_KW] * ev[of.EV_IN], ev[of.EV_MOST], ev[of.EV_NOW], ev[of.EV_NOW]
    for t in range(low.size):
        trip = drift[t]
        reach = min(reach + stored * charge[t] * c.hours[t] - trip, capacity)
        idle -= trip
        low[t] = min(low[t], min(reach, max(idle, 0.0)))
        target = wanted[t if wanted.size > 1 else 0]
        if target > low[t]:
            low[t], rho[t] = target, c.ev_short
    _times(charge, ev[of.EV_OUT_KW], discharge)
    _times(charge, ev[of.EV_IN_KW], charge)
    _times(drift, -1.0, drift)
    _at_least(LEAST_KW, charge)
    _at_least(LEAST_KW, discharge)


@compiled
def _pose_pump(c: Any, h: int, rows: Floats, ends: Floats, j: int, first: int) -> None:
    _pose_box(c, j, rows, c.traits[h, of.PUMP_KW], 0.0, 0.0)
    _copy_moving(c.warm_c_per_kw, h, rows[box_row(j, GAIN)])
    _copy_moving(c.left, h, rows[first + KEEP])
    _copy_moving(c.drift_c, h, rows[first + DRIFT])
    _copy_moving(c.low_c, h, rows[first + LEAST])
    _copy_moving(c.high_c, h, rows[first + LARGEST])
    price = rows[first + LEAST_PRICE]
    if c.even and c.discomfort.shape[1] == 1:
        price[0] = c.hours[0] * c.discomfort[h if c.discomfort.shape[0] > 1 else 0, 0]
        rows[first + LARGEST_PRICE, 0] = price[0]
    else:
        _copy(c.discomfort, h, price)
        for t in range(price.size):
            price[t] *= c.hours[t]
        copy(price, rows[first + LARGEST_PRICE])
    ends[START], ends[END_COST] = c.traits[h, of.PUMP_NOW], -c.traits[h, of.PUMP_END]


@compiled
def _pose_appliance(c: Any, h: int, slot: int, rows: Floats, ends: Floats, j: int, first: int) -> None:
    power, energy = c.appliance_kw[h, slot], c.appliance_kwh[h, slot]
    begin, end = c.appliance_first[h, slot], min(c.appliance_last[h, slot], c.hours.size - 1)
    _pose_box(c, j, rows, 0.0, 0.0, 1.0)
    ends[START], ends[END_COST] = 0.0, 0.0
    most, low, rho = rows[box_row(j, MOST)], rows[first + LEAST], rows[first + LEAST_PRICE]
    fill(most, LEAST_KW)
    fill(low, NO_KWH)
    fill(rho, 1.0)
    if power <= 0.0 or energy <= 0.0:
        _pose_bounds(rows, first, NO_KWH, 1.0, 1.0, c.bound)
        return
    _pose_bounds(rows, first, NO_KWH, 1.0, energy, c.bound)
    for t in range(max(begin, 0), end + 1):
        most[t] = max(power, LEAST_KW)
    if end >= 0:
        low[end], rho[end] = energy, c.appliance_short


@compiled
def place_load(c: Any, h: int, starts: Ints, load: Floats) -> None:
    """Load (T,) [kW] of the runs of home `h` that begin at `starts` (R,)."""
    fill(load, 0.0)
    for run in range(starts.size):
        add_run(c.edges, c.run_kw[h, run], c.run_h[h, run], starts[run], load)


@compiled
def pose_home(c: Any, devices: Any, h: int, rows: Floats, ends: Floats) -> None:
    """Home `h` of the columns `c` into `rows` (rows, T) and `ends` (n, 2) of a `Posed`; its RUN_KW is there."""
    _pose_meter(c, h, rows)
    for i in range(devices.kind.size):
        kind, j, first = devices.kind[i], devices.at[i], store_row(devices.at[-1], i, 0)
        if kind == BATTERY:
            _pose_battery(c, h, rows, ends[i], j, first)
        elif kind == EV:
            _pose_ev(c, h, rows, ends[i], j, first)
        elif kind == PUMP:
            _pose_pump(c, h, rows, ends[i], j, first)
        else:
            _pose_appliance(c, h, devices.slot[i], rows, ends[i], j, first)
