"""A fleet's problem as compiled code takes it: every quantity at full extent or as one number for all, never copied.

A series (N, T) that is the same in all homes or in all steps is handed over as (1, T), (N, 1) or (1, 1); one layout of
arrays is one compilation. What a home has one number of is in its row of `traits`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetProblem

__all__ = ["Columns", "columns_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Columns of `traits`.
TRAITS = 21
(
    LIMIT_KW,
    BATTERY_NOW, BATTERY_MOST, BATTERY_FLOOR, BATTERY_IN_KW, BATTERY_OUT_KW, BATTERY_IN, BATTERY_OUT, BATTERY_WEAR,
    BATTERY_END,
    EV_NOW, EV_MOST, EV_IN_KW, EV_OUT_KW, EV_IN, EV_OUT, EV_WEAR, EV_END,
    PUMP_KW, PUMP_NOW, PUMP_END,
) = range(TRAITS)  # fmt: skip
_BATTERY = (
    "energy_kwh", "capacity_kwh", "floor_kwh", "charge_kw", "discharge_kw", "charge_efficiency",
    "discharge_efficiency", "wear_eur_per_kwh", "end_value_eur_per_kwh",
)  # fmt: skip
_EV = (
    "energy_kwh", "capacity_kwh", "charge_kw", "discharge_kw", "charge_efficiency", "discharge_efficiency",
    "wear_eur_per_kwh", "end_value_eur_per_kwh",
)  # fmt: skip
_PUMP = ("power_kw", "indoor_c", "end_value_eur_per_k")


class Columns(NamedTuple):
    """Series (N or 1, T or 1), with units and meaning as in `FleetProblem`."""

    hours: Floats
    """(T,)"""
    edges: Floats
    """(T + 1,) [h] when the steps begin, and when the last one ends."""
    even: bool
    """Whether all steps are of one length."""
    traits: Floats
    """(N, TRAITS)"""
    load_kw: Floats
    pv_kw: Floats
    wind_kw: Floats
    buy: Floats
    sell: Floats
    export_kw: Floats
    price: Floats
    curvature: Floats
    here: Floats
    trip_kwh: Floats
    floor_kwh: Floats
    target_kwh: Floats
    left: Floats
    warm_c_per_kw: Floats
    drift_c: Floats
    low_c: Floats
    high_c: Floats
    discomfort: Floats
    appliance_kw: Floats
    """(N, K), as the next three."""
    appliance_kwh: Floats
    appliance_first: Ints
    appliance_last: Ints
    run_kw: Floats
    """(N, R), as the next three."""
    run_h: Floats
    run_first: Ints
    run_last: Ints
    over: float
    """Prices of relaxations [EUR/kWh]: import beyond the contract, a missed EV target, unserved energy, bounds."""
    ev_short: float
    appliance_short: float
    bound: float


def _series(values: Any, default: float = 0.0) -> Floats:
    """`values` (N, T), (T,) or None as (N or 1, T or 1), contiguous and of one type."""
    whole = np.atleast_2d(np.asarray(default if values is None else values, dtype=np.float64))
    homes, steps = (1 if stride == 0 else None for stride in whole.strides)
    return np.require(whole[:homes, :steps], requirements=("C", "W"))


def _slots(part: Any, names: tuple[str, ...], homes: int) -> list[Any]:
    """Arrays (N, K) of `part` by name; none of K where it is None."""
    if part is None:
        return [np.zeros((homes, 0), dtype=np.float64 if n < 2 else np.int64) for n in range(len(names))]
    types = (np.float64, np.float64, np.int64, np.int64)
    return [np.require(getattr(part, name), of, ("C", "W")) for name, of in zip(names, types, strict=True)]


def columns_of(problem: FleetProblem) -> Columns:
    """The columns of `problem`: views of its arrays wherever these are contiguous."""
    meter, ev, pump, homes = problem.meter, problem.ev, problem.heat_pump, problem.homes
    traits = np.zeros((homes, TRAITS))
    traits[:, LIMIT_KW] = meter.import_limit_kw
    for part, first, names in ((problem.battery, BATTERY_NOW, _BATTERY), (ev, EV_NOW, _EV), (pump, PUMP_KW, _PUMP)):
        for column, name in enumerate(names if part is not None else (), first):
            traits[:, column] = getattr(part, name)
    own = [_series(getattr(ev, name, None)) for name in ("here", "trip_kwh", "floor_kwh", "target_kwh")]
    rooms = ("left", "warm_c_per_kw", "drift_c", "low_c", "high_c", "discomfort_eur_per_k_h")
    own += [_series(getattr(pump, name, None)) for name in rooms]
    tariff = (meter.load_kw, meter.pv_kw, meter.wind_kw, meter.buy, meter.sell, meter.export_limit_kw)
    price = problem.penalties
    parts: list[Any] = [
        np.require(problem.hours, np.float64, ("C", "W")), np.concatenate([[0.0], np.cumsum(problem.hours)]),
        bool(np.all(problem.hours == problem.hours[0])), traits,
        *(_series(values) for values in (*tariff, problem.fleet_price, problem.fleet_curvature)), *own,
        *_slots(problem.appliances, ("power_kw", "energy_kwh", "first", "last"), homes),
        *_slots(problem.shiftable, ("power_kw", "duration_h", "first", "last"), homes),
        *(float(of) for of in (price.over_eur_per_kwh, price.ev_short_eur_per_kwh)),
        *(float(of) for of in (price.appliance_short_eur_per_kwh, price.bound_eur_per_kwh)),
    ]  # fmt: skip
    return Columns._make(parts)
