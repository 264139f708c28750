"""From the state of a node to the problem of its fleet: bounds, targets, prices and end values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import Appliances, Battery, Ev, FleetProblem, HeatPump, Meter, Shiftable
from xapps.hems_load.horizon import STEP_S
from xapps.hems_load.model import Jobs, cop_at, heat_loss_factor
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State

__all__ = ["Slots", "pose_fleet", "slots_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SOONER_EUR_PER_KWH = 1e-3
"""What later imports cost more over the horizon: of equal prices the earlier is taken, and cars are full sooner."""
PRICE_GAP = 1e-3
"""Least difference of import and export price in a plan [EUR/kWh]: without one, both could flow at once."""
END_VALUE_SHARE = 0.9
"""Value of energy left in a battery at the end of the horizon over the mean import price."""
COMFORT_MARGIN_K = 0.1
"""Kept to both bounds of the band: gains and weather differ from what is expected."""
EV_MARGIN_KWH = 0.05
"""Planned above a car's target: a solution is exact to some Wh only, and a target is a promise."""
HEAT_VALUE_SHARE = 0.5
"""Value of warmth left at the end of the horizon over what it costs to make, as part of it is lost."""
EV_VALUE_SHARE = 0.6
"""Value of EV energy above the target over the mean import price: it saves charging later, perhaps elsewhere."""
EV_RATE_SHARE = 0.9
"""Share of full power that a stay beyond the horizon is counted on to charge with afterwards."""
_TINY_H = 1e-6


@dataclass(frozen=True)
class Slots:
    """Where each appliance (K,) stands in the problem's (N, slot) arrays; -1 where the plan leaves it alone."""

    interruptible: Ints
    shiftable: Ints


def pose_fleet(state: State, policy: HemsPolicy) -> FleetProblem:
    """The problem of all homes of `state` under `policy`, over the steps ahead."""
    buy, sell = _prices(state, policy)
    mean = buy @ np.diff(state.edges_h) / state.edges_h[-1]
    return FleetProblem(
        hours=np.diff(state.edges_h),
        meter=_meter(state, policy, buy, sell),
        battery=_battery(state, policy, mean),
        ev=_ev(state, policy, mean),
        heat_pump=_heat_pump(state, policy, mean),
        appliances=_interruptible(state, slots_of(state.jobs)),
        shiftable=_shiftable(state, slots_of(state.jobs)),
    )


def slots_of(jobs: Jobs) -> Slots:
    """Slots by home, in the order of the appliances; one that runs in one piece already has none."""
    free = (jobs.left_h > _TINY_H) & ~(jobs.running & ~jobs.interruptible)
    return Slots(_ranked(jobs.home, free & jobs.interruptible), _ranked(jobs.home, free & ~jobs.interruptible))


def _ranked(home: NDArray[np.intp], chosen: NDArray[np.bool_]) -> Ints:
    """(K,) how many chosen ones of the same home come before; -1 for those not chosen."""
    rank = np.full(home.size, -1, dtype=np.int64)
    rows = np.flatnonzero(chosen)
    order = rows[np.argsort(home[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(home[order], prepend=-1))
    counts = np.diff(np.append(starts, order.size))
    rank[order] = np.arange(order.size) - np.repeat(starts, counts)
    return rank


def _prices(state: State, policy: HemsPolicy) -> tuple[Floats, Floats]:
    """(N, T) what an import costs and an export earns in the plan [EUR/kWh]."""
    horizon, begin_h = state.horizon, state.edges_h[:-1]
    carbon = policy.carbon_eur_per_t / 1e6 * horizon.carbon_g_per_kwh
    tariff = policy.price_weight * (horizon.buy + carbon) + SOONER_EUR_PER_KWH * begin_h / 24
    buy = tariff + _own_view(state, policy.spread_eur_per_kwh)
    return buy, np.minimum(policy.price_weight * horizon.sell, buy - PRICE_GAP)


def _own_view(state: State, spread: float) -> Floats:
    """(N, T) what each home adds to the tariff [EUR/kWh], -spread..spread: fixed per home and hour of the calendar,
    linear in between by quarters of an hour, so that the next plan sees the same.
    """
    hours = np.floor((state.time_s + 3600 * state.edges_h[:-1]) / STEP_S) * STEP_S / 3600
    first, homes = int(hours[0]), len(state.homes)
    knots = np.array([np.random.default_rng(n).uniform(-1, 1, homes) for n in range(first, int(hours[-1]) + 2)])
    whole = hours.astype(int) - first
    share = hours - hours.astype(int)
    return np.asarray(spread * ((1 - share)[:, None] * knots[whole] + share[:, None] * knots[whole + 1])).T


def _meter(state: State, policy: HemsPolicy, buy: Floats, sell: Floats) -> Meter:
    horizon, homes, jobs = state.horizon, state.homes, state.jobs
    load = horizon.load_kw
    under_way = jobs.running & ~jobs.interruptible & (jobs.left_h > 0)
    if under_way.any():
        edges = np.minimum(state.edges_h, jobs.left_h[under_way, None])
        share = np.diff(edges, axis=1) / np.diff(state.edges_h)
        load = load.copy()
        np.add.at(load, jobs.home[under_way], jobs.power_kw[under_way, None] * share)
    export = homes.export_limit_kw if policy.export_allowed else np.zeros(len(homes))
    limit = np.broadcast_to(export[:, None], buy.shape)
    return Meter(load, horizon.pv_kw, horizon.wind_kw, buy, sell, homes.connection_kw, limit)


def _battery(state: State, policy: HemsPolicy, mean: Floats) -> Battery | None:
    homes = state.homes
    if not homes.battery_kwh.any():
        return None
    # Of the fleet's reserve each battery keeps the energy of its share, by power.
    share = homes.battery_max_kw / homes.battery_max_kw.sum()
    floor = policy.reserve_kw * share * policy.reserve_hold_min / 60 / homes.battery_efficiency
    return Battery(
        energy_kwh=np.clip(state.report["battery_soc"], 0, 1) * homes.battery_kwh,
        capacity_kwh=homes.battery_kwh,
        floor_kwh=np.minimum(floor, homes.battery_kwh),
        charge_kw=homes.battery_max_kw,
        discharge_kw=homes.battery_max_kw,
        charge_efficiency=homes.battery_efficiency,
        discharge_efficiency=homes.battery_efficiency,
        wear_eur_per_kwh=np.full(len(homes), policy.wear_eur_per_kwh),
        end_value_eur_per_kwh=END_VALUE_SHARE * mean * homes.battery_efficiency,
    )


def _ev(state: State, policy: HemsPolicy, mean: Floats) -> Ev | None:
    """The stay under way. The car leaves at the announced time, so the step in which that falls does not count. Below
    the V2G floor nothing is discharged; a car that came home below it is not forced up at once, but never goes down.
    """
    homes, report = state.homes, state.report
    connected = (report["ev_connected"] > 0.5) & (homes.ev_kwh > 0)
    if not connected.any():
        return None
    edges, leaves_h = state.edges_h, np.where(connected, report["ev_departure_h"], 0.0)
    ends = edges[None, 1:] <= leaves_h[:, None] + _TINY_H
    here = ends.astype(float)
    now = np.clip(report["ev_soc"], 0, 1) * homes.ev_kwh
    floor_soc = np.maximum(policy.v2g_floor_soc, homes.ev_floor_soc)
    floor = np.where(connected, np.minimum(floor_soc * homes.ev_kwh, now), 0.0)
    later = np.maximum(leaves_h - edges[-1], 0) * EV_RATE_SHARE * homes.ev_max_kw * homes.ev_efficiency
    target = np.minimum(report["ev_target_soc"] * homes.ev_kwh + EV_MARGIN_KWH, homes.ev_kwh)
    wanted = np.maximum(target - later, 0)
    due = ends & ~np.pad(ends[:, 1:], ((0, 0), (0, 1)))
    return Ev(
        energy_kwh=np.where(connected, now, 0.0),
        capacity_kwh=np.where(connected, homes.ev_kwh, 0.0),
        charge_kw=np.where(connected, homes.ev_max_kw, 0.0),
        discharge_kw=np.where(connected, homes.ev_v2g_kw, 0.0),
        charge_efficiency=homes.ev_efficiency,
        discharge_efficiency=homes.ev_efficiency,
        wear_eur_per_kwh=np.full(len(homes), policy.v2g_wear_eur_per_kwh),
        end_value_eur_per_kwh=np.where(connected, EV_VALUE_SHARE * mean, 0.0),
        here=here,
        trip_kwh=np.zeros(here.shape),
        floor_kwh=np.broadcast_to(floor[:, None], here.shape),
        target_kwh=np.where(due, wanted[:, None], 0.0),
    )


def _heat_pump(state: State, policy: HemsPolicy, mean: Floats) -> HeatPump | None:
    homes, horizon = state.homes, state.horizon
    if not homes.hvac_max_kw.any():
        return None
    hours = np.diff(state.edges_h)
    lengths, of = np.unique(hours, return_inverse=True)
    left = np.stack([heat_loss_factor(homes, 3600 * length) for length in lengths], axis=1)[:, of]
    cop = cop_at(homes, horizon.outdoor_c)
    gains = state.gains_kw / homes.heat_loss_kw_per_k
    setback = np.minimum(policy.setback_k, homes.setback_k)[:, None] * (1 - horizon.occupied)
    return HeatPump(
        power_kw=homes.hvac_max_kw,
        indoor_c=state.report["indoor_c"],
        left=left,
        warm_c_per_kw=(1 - left) / homes.heat_loss_kw_per_k[:, None] * cop,
        drift_c=(1 - left) * (horizon.outdoor_c[None, :] + gains[:, None]),
        low_c=homes.comfort_low_c[:, None] - setback + COMFORT_MARGIN_K,
        high_c=homes.comfort_high_c[:, None] + setback - COMFORT_MARGIN_K,
        discomfort_eur_per_k_h=np.full(left.shape, policy.comfort_eur_per_k_h),
        end_value_eur_per_k=HEAT_VALUE_SHARE * mean * homes.heat_capacity_kwh_per_k / (cop @ hours / hours.sum()),
    )


def _interruptible(state: State, slots: Slots) -> Appliances | None:
    jobs, edges = state.jobs, state.edges_h
    rows = np.flatnonzero((slots.interruptible >= 0) & (jobs.opens_h < edges[-1] - _TINY_H))
    if not rows.size:
        return None
    shape = (len(state.homes), int(slots.interruptible.max()) + 1)
    where = jobs.home[rows], slots.interruptible[rows]
    first = np.minimum(_first_after(edges, jobs.opens_h[rows]), edges.size - 2)
    last = np.maximum(_last_before(edges, jobs.closes_h[rows]) - 1, first - 1)
    # What of the window lies beyond the horizon can take its part of the job.
    left_h = np.maximum(jobs.left_h[rows] - np.maximum(jobs.closes_h[rows] - edges[-1], 0), 0)
    energy = jobs.power_kw[rows] * np.minimum(left_h, edges[last + 1] - edges[first])
    power, energy = (_placed(shape, where, values) for values in (jobs.power_kw[rows], energy))
    window = (first.astype(float), np.maximum(last, first).astype(float))
    ends = (_placed(shape, where, values).astype(np.int64) for values in window)
    return Appliances(power, energy, *ends)


def _shiftable(state: State, slots: Slots) -> Shiftable | None:
    jobs, edges = state.jobs, state.edges_h
    first = _first_after(edges, jobs.opens_h)
    latest = np.maximum(_last_before(edges, jobs.closes_h - jobs.left_h), first)
    last = np.minimum(latest, _last_before(edges, edges[-1] - jobs.left_h))
    # A run that cannot end within the horizon can wait for the next plan.
    rows = np.flatnonzero((slots.shiftable >= 0) & (last >= first))
    if not rows.size:
        return None
    shape = (len(state.homes), int(slots.shiftable.max()) + 1)
    where = jobs.home[rows], slots.shiftable[rows]
    power, duration = (_placed(shape, where, value[rows]) for value in (jobs.power_kw, jobs.left_h))
    window = (first.astype(float), last.astype(float))
    ends = (_placed(shape, where, value[rows]).astype(np.int64) for value in window)
    return Shiftable(power, duration, *ends)


def _first_after(edges_h: Floats, time_h: Floats) -> Ints:
    """(K,) first of `edges_h` not before `time_h`."""
    return np.asarray(np.searchsorted(edges_h, time_h - _TINY_H), dtype=np.int64)


def _last_before(edges_h: Floats, time_h: Floats) -> Ints:
    """(K,) last of `edges_h` not after `time_h`; -1 where there is none."""
    return np.asarray(np.searchsorted(edges_h, time_h + _TINY_H, side="right"), dtype=np.int64) - 1


def _placed(shape: tuple[int, int], where: tuple[NDArray[np.intp], Ints], values: Floats) -> Floats:
    result = np.zeros(shape)
    result[where] = values
    return result
