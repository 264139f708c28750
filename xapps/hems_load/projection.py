"""The last word on every set-point: inside its device's limits, inside the room's and the EV owner's, always finite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State
from xapps.hems_load.tracking import NO_LIMIT_KW, SetPoints, battery_limits, must_charge

__all__ = ["Projected", "project"]

Floats = NDArray[np.float64]

COLD_GUARD_K = 1.0
"""An occupied room this far below its bound is heated at full power, whatever the plan says [K]."""
HOT_GUARD_K = 1.0
"""A room this far above its bound is not heated [K]."""


@dataclass(frozen=True)
class Projected:
    """Safe set-points, and which homes (N,) had theirs changed, by reason code."""

    points: SetPoints
    changed: dict[str, NDArray[np.bool_]]


def project(state: State, points: SetPoints, policy: HemsPolicy) -> Projected:
    """The nearest set-points that are safe.

    Finite; within the devices' power and energy; no V2G below the floor nor from a car that must charge; a car that
    must charge does; an occupied cold room is heated, a hot one is not. Idempotent.
    """
    homes, report = state.homes, state.report
    raw = (points.battery_kw, points.ev_kw, points.hvac_kw, points.pv_limit_kw)
    bad = ~np.logical_and.reduce([np.isfinite(values) for values in raw])
    battery, ev, hvac = (np.where(np.isfinite(values), values, 0.0) for values in raw[:3])
    pv_limit = np.where(np.isfinite(raw[3]), raw[3], NO_LIMIT_KW)
    battery = np.clip(battery, *battery_limits(homes, report["battery_soc"]))
    ev_safe = _safe_ev(state, ev, policy)
    hvac = np.clip(hvac, 0, homes.hvac_max_kw)
    indoor, occupied = report["indoor_c"], report["occupied"] > 0.5
    cold = occupied & (indoor < homes.comfort_low_c - COLD_GUARD_K)
    hot = indoor > homes.comfort_high_c + HOT_GUARD_K
    guarded = np.where(hot, 0.0, np.where(cold, homes.hvac_max_kw, hvac))
    changed = {
        "NOT_FINITE": bad,
        "BATTERY_LIMIT": np.abs(battery - np.where(bad, battery, points.battery_kw)) > 1e-6,
        "EV_GUARD": np.abs(ev_safe - ev) > 1e-6,
        "ROOM_GUARD": np.abs(guarded - hvac) > 1e-6,
    }
    # A report that is not finite would spoil the limits themselves: then nothing flows.
    battery, ev_safe, guarded = (np.nan_to_num(values) for values in (battery, ev_safe, guarded))
    return Projected(SetPoints(battery, ev_safe, guarded, np.clip(pv_limit, 0, NO_LIMIT_KW)), changed)


def _safe_ev(state: State, ev_kw: Floats, policy: HemsPolicy) -> Floats:
    homes, report = state.homes, state.report
    connected = report["ev_connected"] > 0.5
    urgent = must_charge(state)
    discharges = (homes.ev_v2g_kw > 0) & (report["ev_soc"] > policy.v2g_floor_soc) & ~urgent
    low = np.where(discharges, -homes.ev_v2g_kw, 0.0)
    # A nearly full battery takes less and less; asking for more would not be what is then in force.
    high = np.where(report["ev_soc"] >= 1 - 1e-6, 0.0, homes.ev_max_kw)
    power = np.where(urgent, high, np.clip(ev_kw, low, high))
    return np.where(connected, power, 0.0)
