"""A fleet's problem as the solver sees it: every device a storage with an inlet, some with an outlet, behind one meter.

Battery and EV have both, heat pump (its storage is the room's warmth) and interruptible appliance (energy served) an
inlet alone. Four segments make the meter's convex tariff: import within the contract, beyond it, export, curtailment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import Appliances, Battery, Ev, FleetProblem, HeatPump
from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.layout import SEGMENTS

__all__ = ["SEGMENTS", "Storages", "as_storages", "device_names"]

Floats = NDArray[np.float64]

IMPORT, OVER, EXPORT, CURTAIL = range(SEGMENTS)
MOST_OVER_KW = 1e3
CURTAIL_EUR_PER_KWH = 1e-5
"""Of two equal plans the one that curtails less."""
FREE = 1e4
"""Bound that never binds."""
LEAST_KW = 1e-4
"""A device with less power than this is absent."""
PRICE_GAP = 1e-4
"""Least difference of import and export price [EUR/kWh]: without one, both could flow at once."""


class Storages(NamedTuple):
    """Boxes (J, N, T), storages (n, N, T), in a problem of N homes; `of` (J,) is each box's storage, n for none.

    Where `box_varies` or `store_varies` is false, the first step's number holds in all, and the others are not written.
    """

    hours: Floats
    base_kw: Floats
    """(N, T) load less generation."""
    of: NDArray[np.int64]
    high_kw: Floats
    cost: Floats
    """[EUR/kW] over the step."""
    sigma: Floats
    """Share in the balance: 1 takes power, -1 gives; 0 where the box is absent."""
    gain: Floats
    """What one kW adds to the storage in the step."""
    start: Floats
    """(n, N) state now."""
    low: Floats
    high: Floats
    price_low: Floats
    """[EUR] per unit below `low` at the end of the step."""
    price_high: Floats
    end_cost: Floats
    """(n, N) [EUR] per unit at the end of the horizon."""
    keep: Floats
    """Share of the state that is left after the step."""
    drift: Floats
    hard: NDArray[np.bool_]
    """(n,) whether the bounds are the device's own (battery, EV, appliance), not a wish (room)."""
    limit_kw: Floats
    """(N,) contract power."""
    export_kw: Floats
    """(N, T) most that may be exported."""
    generation_kw: Floats
    buy: Floats
    sell: Floats
    """(N, T) tariffs without the fleet's price [EUR/kWh]."""
    over: float
    curve: Floats
    """(N, T) rise of the import's price with its power [EUR/kW^2 over the step]."""
    box_varies: NDArray[np.bool_]
    """(4, J) whether cost, sigma, gain, high_kw of each box differ from step to step."""
    store_varies: NDArray[np.bool_]
    """(6, n) the same of keep, drift, low, price_low, high, price_high."""

    @property
    def first_box(self) -> NDArray[np.int64]:
        """(n + 1,) first box of each storage, inlet before outlet; the last entry is the number of boxes."""
        return np.searchsorted(self.of[SEGMENTS:], np.arange(self.low.shape[0] + 1)) + SEGMENTS


def device_names(problem: FleetProblem) -> tuple[str, ...]:
    """The storages of `problem` in their order."""
    names = [name for name in ("battery", "ev", "heat_pump") if getattr(problem, name) is not None]
    runs = 0 if problem.appliances is None else problem.appliances.power_kw.shape[1]
    return (*names, *(f"appliance_{n}" for n in range(runs)))


@dataclass(frozen=True)
class _Device:
    """One storage of all homes and its boxes (inlet, outlet or None): power, cost, presence, gain."""

    start: Floats
    low: Floats
    high: Floats
    price_low: Floats
    price_high: Floats
    end_cost: Floats
    keep: Floats
    drift: Floats
    hard: bool
    inlet: tuple[Floats, Floats, Floats]
    outlet: tuple[Floats, Floats, Floats] | None
    """Most power [kW], cost [EUR/kWh], gain per kWh; the outlet's gain is negative."""


def as_storages(problem: FleetProblem, load_kw: Floats) -> Storages:
    """The solver's form of `problem`; `load_kw` (N, T) is the load without a decision, chosen runs included."""
    shape, hours, meter = load_kw.shape, problem.hours, problem.meter
    price = 0.0 if problem.fleet_price is None else problem.fleet_price
    generation = meter.pv_kw + meter.wind_kw
    rise = np.zeros(1) if problem.fleet_curvature is None else problem.fleet_curvature
    curve = np.array(np.broadcast_to(hours * rise, shape))
    own_sell = np.minimum(meter.sell, meter.buy - PRICE_GAP)
    buy, sell = meter.buy + price, own_sell + price
    devices = _devices(problem)
    boxes = [(device, box) for device, d in enumerate(devices) for box in (d.inlet, d.outlet) if box is not None]
    made = _Boxes.empty(SEGMENTS + len(boxes), shape)
    of = np.full(SEGMENTS + len(boxes), len(devices), dtype=np.int64)
    limits = (meter.import_limit_kw[:, None], MOST_OVER_KW, meter.export_limit_kw, generation)
    prices = (buy, buy + problem.penalties.over_eur_per_kwh, -sell, CURTAIL_EUR_PER_KWH)
    for j, (limit, tariff, sign) in enumerate(zip(limits, prices, (-1.0, -1.0, 1.0, 1.0), strict=True)):
        made.fill(j, (np.asarray(limit), np.asarray(tariff), np.asarray(0.0)), hours, sign)
    for j, (device, box) in enumerate(boxes, SEGMENTS):
        of[j] = device
        made.fill(j, box, hours, 1.0 if box is devices[device].inlet else -1.0)
    per_step = {name: np.empty((len(devices), *shape)) for name in PER_STEP}
    varies = np.zeros((len(PER_STEP), len(devices)), dtype=np.bool_)
    for row, (name, values) in enumerate(per_step.items()):
        for n, own in enumerate(devices):
            value = getattr(own, name)
            varies[row, n] = _varies(value)
            if varies[row, n]:
                values[n] = value
            else:
                values[n, :, :1] = value
    posed = Storages(
        hours=hours, base_kw=load_kw - generation, of=of, high_kw=made.high, cost=made.cost, sigma=made.sigma,
        gain=made.gain, hard=np.array([device.hard for device in devices], dtype=bool),
        start=_per_home(devices, "start", shape[0]), end_cost=_per_home(devices, "end_cost", shape[0]),
        limit_kw=meter.import_limit_kw, export_kw=np.array(meter.export_limit_kw), generation_kw=generation,
        buy=np.array(meter.buy), sell=own_sell, over=problem.penalties.over_eur_per_kwh, curve=curve,
        box_varies=made.varies, store_varies=varies, **per_step,
    )  # fmt: skip
    # One layout of arrays is one compilation.
    return Storages._make(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part for part in posed)


PER_STEP = ("keep", "drift", "low", "price_low", "high", "price_high")


def _varies(values: Floats) -> bool:
    """Whether an array (T,), (N, T) or one that may be seen as such differs from step to step."""
    return values.ndim > 0 and values.shape[-1] > 1


def _per_home(devices: list[_Device], name: str, homes: int) -> Floats:
    made = np.empty((len(devices), homes))
    for n, device in enumerate(devices):
        made[n] = getattr(device, name)
    return made


@dataclass(frozen=True)
class _Boxes:
    """Boxes (J, N, T) to be filled, and what of each differs from step to step (4, J)."""

    high: Floats
    cost: Floats
    sigma: Floats
    gain: Floats
    varies: NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int, shape: tuple[int, ...]) -> _Boxes:
        """For `count` boxes."""
        high, cost, sigma, gain = (np.empty((count, *shape)) for _ in range(4))
        return cls(high, cost, sigma, gain, np.zeros((4, count), dtype=np.bool_))

    def fill(self, j: int, values: tuple[Floats, Floats, Floats], hours: Floats, sign: float) -> None:
        """Fill box `j` from most power, cost and gain per kWh.

        An absent one becomes a box of 1 kW that costs and moves nothing, so that no bounds meet.
        """
        limit, tariff, per_kwh = values
        absent = limit <= LEAST_KW
        some = bool(absent.any())
        moves = some and _varies(limit)
        uneven = bool(np.any(hours != hours[0]))
        parts = (
            (self.cost, tariff, 0.0, hours),
            (self.sigma, np.asarray(sign), 0.0, None),
            (self.gain, per_kwh, 0.0, hours),
            (self.high, limit, 1.0, None),
        )
        for part, (into, value, if_absent, factor) in enumerate(parts):
            zero = value.ndim == 0 and value == 0.0
            varies = not zero and (_varies(value) or moves or (uneven and factor is not None))
            own = into[j] if varies else into[j, :, :1]
            if factor is None:
                own[:] = value
            else:
                np.multiply(factor if varies else factor[:1], value, out=own)
            if some and not zero:
                np.copyto(own, if_absent, where=absent)
            self.varies[part, j] = varies


def _devices(problem: FleetProblem) -> list[_Device]:
    devices = []
    if problem.battery is not None:
        devices.append(_battery(problem.battery, problem))
    if problem.ev is not None:
        devices.append(_ev(problem.ev, problem))
    if problem.heat_pump is not None:
        devices.append(_heat_pump(problem.heat_pump, problem))
    if problem.appliances is not None:
        runs = problem.appliances.power_kw.shape[1]
        devices += [_appliance(problem.appliances, n, problem) for n in range(runs)]
    return devices


def _battery(battery: Battery, problem: FleetProblem) -> _Device:
    has = battery.capacity_kwh > 0
    bound, one = np.array(problem.penalties.bound_eur_per_kwh), np.array(1.0)
    return _Device(
        start=np.where(has, battery.energy_kwh, 0.5),
        low=np.where(has, np.minimum(battery.floor_kwh, battery.energy_kwh), 0.0)[:, None],
        high=np.where(has, battery.capacity_kwh, 1.0)[:, None],
        price_low=bound,
        price_high=bound,
        end_cost=np.where(has, -battery.end_value_eur_per_kwh, 0.0),
        keep=one,
        drift=np.array(0.0),
        hard=True,
        inlet=(
            np.where(has, battery.charge_kw, 0.0)[:, None],
            battery.wear_eur_per_kwh[:, None],
            battery.charge_efficiency[:, None],
        ),
        outlet=(
            np.where(has, battery.discharge_kw, 0.0)[:, None],
            battery.wear_eur_per_kwh[:, None],
            -1 / battery.discharge_efficiency[:, None],
        ),
    )


@compiled
def _ev_bounds(ev: Any, power: Floats, hours: Floats, prices: tuple[float, float], low: Floats, rho: Floats) -> None:
    """Lower bound (N, T) of each car and its price: the target where one is wanted, else the floor.

    `power` (N,) is what the car stores at most [kW], `prices` those of a missed target and of a bound. The floor is one
    that holds whatever is done: what cannot be reached, or what driving takes, is no relaxation.
    """
    for home in range(low.shape[0]):
        reach = idle = ev.energy_kwh[home]
        for t in range(low.shape[1]):
            trip = ev.trip_kwh[home, t]
            reach = min(reach + power[home] * ev.here[home, t] * hours[t] - trip, ev.capacity_kwh[home])
            idle -= trip
            floor = min(ev.floor_kwh[home, t], min(reach, max(idle, 0.0)))
            wanted = ev.target_kwh[home, t] > floor
            low[home, t] = ev.target_kwh[home, t] if wanted else floor
            rho[home, t] = prices[0] if wanted else prices[1]


class _Trips(NamedTuple):
    """What of an `Ev` bounds its energy, as compiled code takes it."""

    energy_kwh: Floats
    capacity_kwh: Floats
    here: Floats
    trip_kwh: Floats
    floor_kwh: Floats
    target_kwh: Floats


def _ev(ev: Ev, problem: FleetProblem) -> _Device:
    has, price, shape = ev.capacity_kwh > 0, problem.penalties, ev.here.shape
    trips = _Trips(*(np.ascontiguousarray(getattr(ev, name)) for name in _Trips._fields))
    low, rho, present = np.empty(shape), np.empty(shape), ev.here if has.all() else ev.here * has[:, None]
    prices = (price.ev_short_eur_per_kwh, price.bound_eur_per_kwh)
    _ev_bounds(trips, ev.charge_kw * ev.charge_efficiency, problem.hours, prices, low, rho)
    if not has.all():
        low *= has[:, None]
    return _Device(
        start=np.where(has, ev.energy_kwh, 0.5),
        low=low,
        high=np.where(has, ev.capacity_kwh, 1.0)[:, None],
        price_low=rho,
        price_high=np.array(price.bound_eur_per_kwh),
        end_cost=np.where(has, -ev.end_value_eur_per_kwh, 0.0),
        keep=np.array(1.0),
        drift=-ev.trip_kwh * has[:, None],
        hard=True,
        inlet=(ev.charge_kw[:, None] * present, np.array(0.0), ev.charge_efficiency[:, None]),
        outlet=(
            ev.discharge_kw[:, None] * present,
            ev.wear_eur_per_kwh[:, None],
            -1 / ev.discharge_efficiency[:, None],
        ),
    )


def _heat_pump(pump: HeatPump, problem: FleetProblem) -> _Device:
    has, hours = (pump.power_kw > 0)[:, None], problem.hours
    price = np.where(has, hours * pump.discomfort_eur_per_k_h, 1.0)
    return _Device(
        start=np.where(has[:, 0], pump.indoor_c, 0.5),
        low=np.where(has, pump.low_c, 0.0),
        high=np.where(has, pump.high_c, 1.0),
        price_low=price,
        price_high=price,
        end_cost=np.where(has[:, 0], -pump.end_value_eur_per_k, 0.0),
        keep=np.where(has, pump.left, 1.0),
        drift=np.where(has, pump.drift_c, 0.0),
        hard=False,
        inlet=(pump.power_kw[:, None] * has, np.array(0.0), pump.warm_c_per_kw / hours),
        outlet=None,
    )


def _appliance(appliances: Appliances, run: int, problem: FleetProblem) -> _Device:
    energy, power = appliances.energy_kwh[:, run], appliances.power_kw[:, run]
    first, last = appliances.first[:, run][:, None], appliances.last[:, run][:, None]
    step = np.arange(problem.steps)[None, :]
    has = (energy > 0) & (power > 0)
    here = (step >= first) & (step <= last) & has[:, None]
    due = (step == np.minimum(last, problem.steps - 1)) & has[:, None]
    return _Device(
        start=np.where(has, 0.0, 0.5),
        low=np.where(due, energy[:, None], -1.0),
        high=np.where(has, energy, 1.0)[:, None],
        price_low=np.where(due, problem.penalties.appliance_short_eur_per_kwh, 1.0),
        price_high=np.array(problem.penalties.bound_eur_per_kwh),
        end_cost=np.array(0.0),
        keep=np.array(1.0),
        drift=np.array(0.0),
        hard=True,
        inlet=(power[:, None] * here, np.array(0.0), np.array(1.0)),
        outlet=None,
    )
