"""The last word on every set-point: inside its device's limits, inside the room's and the EV owner's, always finite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State
from xapps.hems_load.tracking import NO_LIMIT_KW, SetPoints, battery_limits, must_charge, must_run

__all__ = ["Projected", "faults_of", "project"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COLD_GUARD_K = 1.0
"""An occupied room this far below its bound is heated at full power, whatever the plan says [K]."""
HOT_GUARD_K = 1.0
"""A room this far above its bound is not heated [K]."""
_TINY = 1e-6


@dataclass(frozen=True)
class Projected:
    """Safe set-points, and which homes (N,) had theirs changed, by reason code."""

    points: SetPoints
    changed: dict[str, Bools]


def project(state: State, points: SetPoints, policy: HemsPolicy) -> Projected:
    """The nearest set-points that are safe.

    Finite; within the devices' power and energy; no V2G below the floors nor from a car that must charge; a car that
    must charge does; an occupied cold room is heated, a hot one is not; a run in one piece goes on, a deadline is met,
    nothing runs outside its window. Idempotent. :func:`faults_of` checks the result independently.
    """
    homes, report = state.homes, state.report
    raw = (points.battery_kw, points.ev_kw, points.hvac_kw, points.pv_limit_kw, points.wind_limit_kw)
    bad = ~np.logical_and.reduce([np.isfinite(values) for values in raw])
    battery, ev, hvac = (np.where(np.isfinite(values), values, 0.0) for values in raw[:3])
    pv_limit, wind_limit = (np.where(np.isfinite(values), values, NO_LIMIT_KW) for values in raw[3:])
    battery = np.clip(battery, *battery_limits(homes, report["battery_soc"]))
    ev_safe = _safe_ev(state, ev, policy)
    hvac = np.clip(hvac, 0, homes.hvac_max_kw)
    cold, hot = _cold_and_hot(state)
    guarded = np.where(hot, 0.0, np.where(cold, homes.hvac_max_kw, hvac))
    run = (points.run & may_run(state)) | must_run(state)
    changed = {
        "NOT_FINITE": bad,
        "BATTERY_LIMIT": np.abs(battery - np.where(bad, battery, points.battery_kw)) > _TINY,
        "EV_GUARD": np.abs(ev_safe - ev) > _TINY,
        "ROOM_GUARD": np.abs(guarded - hvac) > _TINY,
        "APPLIANCE_GUARD": state.jobs.by_home((run != points.run).astype(float), len(homes)) > 0,
    }
    # A report that is not finite would spoil the limits themselves: then nothing flows.
    battery, ev_safe, guarded = (np.nan_to_num(values) for values in (battery, ev_safe, guarded))
    pv_limit, wind_limit = (np.clip(limit, 0, NO_LIMIT_KW) for limit in (pv_limit, wind_limit))
    return Projected(SetPoints(battery, ev_safe, guarded, pv_limit, wind_limit, run), changed)


def may_run(state: State) -> Bools:
    """(K,) appliances with a job in hand whose window is open."""
    return np.asarray((state.jobs.left_h > 0) & (state.jobs.opens_h <= _TINY))


def faults_of(state: State, points: SetPoints) -> Bools:
    """(N,) homes whose set-points break a device limit, checked one by one and apart from :func:`project`."""
    homes, report = state.homes, state.report
    soc = np.clip(report["battery_soc"], 0, 1)
    powers = np.stack([points.battery_kw, points.ev_kw, points.hvac_kw, points.pv_limit_kw, points.wind_limit_kw])
    away = ~(report["ev_connected"] > 0.5)
    broken = [
        ~np.isfinite(powers).all(axis=0),
        np.abs(points.battery_kw) > homes.battery_max_kw + _TINY,
        (soc <= 0) & (points.battery_kw < -_TINY),
        (soc >= 1) & (points.battery_kw > _TINY),
        (points.ev_kw > homes.ev_max_kw + _TINY) | (points.ev_kw < -homes.ev_v2g_kw - _TINY),
        away & (np.abs(points.ev_kw) > _TINY),
        (points.hvac_kw < -_TINY) | (points.hvac_kw > homes.hvac_max_kw + _TINY),
        (powers[3:] < -_TINY).any(axis=0) | (powers[3:] > NO_LIMIT_KW + _TINY).any(axis=0),
    ]
    return np.asarray(np.logical_or.reduce(broken))


def _cold_and_hot(state: State) -> tuple[Bools, Bools]:
    homes, indoor = state.homes, state.report["indoor_c"]
    cold = (state.report["occupied"] > 0.5) & (indoor < homes.comfort_low_c - COLD_GUARD_K)
    return cold, indoor > homes.comfort_high_c + HOT_GUARD_K


def _safe_ev(state: State, ev_kw: Floats, policy: HemsPolicy) -> Floats:
    homes, report = state.homes, state.report
    connected = report["ev_connected"] > 0.5
    urgent = must_charge(state)
    floor = np.maximum(policy.v2g_floor_soc, homes.ev_floor_soc)
    discharges = (homes.ev_v2g_kw > 0) & (report["ev_soc"] > floor) & ~urgent
    low = np.where(discharges, -homes.ev_v2g_kw, 0.0)
    # A nearly full battery takes less and less; asking for more would not be what is then in force.
    high = np.where(report["ev_soc"] >= 1 - 1e-6, 0.0, homes.ev_max_kw)
    power = np.where(urgent, high, np.clip(ev_kw, low, high))
    return np.where(connected, power, 0.0)
