"""Between two plans: each minute the set-points follow the plan and answer to what PV and load really do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.model import Homes
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State

__all__ = ["NO_LIMIT_KW", "PlanNow", "SetPoints", "shed_to_cap", "track"]

Floats = NDArray[np.float64]

NO_LIMIT_KW = 100.0
"""PV limit that limits nothing: the schema's upper bound [kW]."""
EXPORT_MARGIN = 0.2
"""Share of the load that stays on the grid where exports are forbidden [1]."""
_NEAR_ZERO_KW = 0.15
"""A planned exchange below this is meant to be none [kW]."""
_HOLD_H = 1 / 12
"""Stored energy must last this long at the power that is asked for [h]: five times the usual time to the next."""


@dataclass(frozen=True)
class PlanNow:
    """The plans' step that holds now, (N,) [kW]; `pv_kw` is what the plan feeds in of `pv_expected_kw`."""

    net_kw: Floats
    battery_kw: Floats
    ev_kw: Floats
    hvac_kw: Floats
    pv_kw: Floats
    pv_expected_kw: Floats


@dataclass(frozen=True)
class SetPoints:
    """Set-points (N,) [kW], battery and EV > 0 charge."""

    battery_kw: Floats
    ev_kw: Floats
    hvac_kw: Floats
    pv_limit_kw: Floats

    def net_kw(self, load_kw: Floats, pv_available_kw: Floats) -> Floats:
        """(N,) power at the meters that they lead to."""
        pv = np.minimum(pv_available_kw, self.pv_limit_kw)
        return np.asarray(load_kw + self.hvac_kw + self.ev_kw + self.battery_kw - pv)


def battery_limits(homes: Homes, soc: Floats) -> tuple[Floats, Floats]:
    """(N,) lowest and highest battery power [kW] that the energy held and the device allow for `_HOLD_H`."""
    energy = soc * homes.battery_kwh
    discharge = np.minimum(homes.battery_max_kw, energy * homes.battery_efficiency / _HOLD_H)
    charge = np.minimum(homes.battery_max_kw, (homes.battery_kwh - energy) / homes.battery_efficiency / _HOLD_H)
    return -np.maximum(discharge, 0), np.maximum(charge, 0)


def track(state: State, plan: PlanNow, policy: HemsPolicy) -> SetPoints:
    """Set-points that keep each home's exchange with the grid on the side of zero that its plan means it to have.

    A home that plans no exchange balances itself with its battery; one that plans to import (to export) keeps the
    planned battery power unless that would make it export (import). So no surplus is lost and no stored energy is spent
    on a load that the grid serves more cheaply.
    """
    homes, report = state.homes, state.report
    connected = report["ev_connected"] > 0.5
    ev = np.where(connected, plan.ev_kw, 0.0)
    curtails = plan.pv_kw < plan.pv_expected_kw - 0.05
    pv_limit = np.where(curtails, plan.pv_kw, NO_LIMIT_KW)
    pv = np.minimum(report["pv_available_kw"], pv_limit)
    rest = report["inflexible_kw"] + plan.hvac_kw + ev - pv
    kept = rest + plan.battery_kw
    balances = np.abs(plan.net_kw) <= _NEAR_ZERO_KW
    crosses = np.where(plan.net_kw > 0, kept < 0, kept > 0)
    battery = np.where(balances | crosses, -rest, plan.battery_kw)
    battery = np.clip(battery, *battery_limits(homes, report["battery_soc"]))
    points = SetPoints(battery, ev, plan.hvac_kw.copy(), pv_limit)
    if not policy.export_allowed:
        points = _without_export(points, report["inflexible_kw"], report["pv_available_kw"])
    return _within_contract(points, homes, report["inflexible_kw"], report["pv_available_kw"])


def _without_export(points: SetPoints, load_kw: Floats, pv_kw: Floats) -> SetPoints:
    """Discharge no more than is used, and curtail PV to what is used."""
    # The next minute may use less than the last, so part of the load is left to the grid.
    used = (1 - EXPORT_MARGIN) * load_kw + points.hvac_kw
    ev = np.maximum(points.ev_kw, -used)
    battery = np.maximum(points.battery_kw, -np.maximum(used + ev, 0))
    room = np.maximum(used + ev + battery, 0)
    return SetPoints(battery, ev, points.hvac_kw, np.where(pv_kw > room, room, NO_LIMIT_KW))


def _within_contract(points: SetPoints, homes: Homes, load_kw: Floats, pv_kw: Floats) -> SetPoints:
    """Less charging, then less heat, where the meter would pass the contract; less discharge for too much export."""
    over = np.maximum(points.net_kw(load_kw, pv_kw) - homes.connection_kw, 0)
    from_battery = np.minimum(over, np.maximum(points.battery_kw, 0))
    from_ev = np.minimum(over - from_battery, np.maximum(points.ev_kw, 0))
    from_heat = np.minimum(over - from_battery - from_ev, points.hvac_kw)
    back = np.maximum(-points.net_kw(load_kw, pv_kw) - homes.connection_kw, 0)
    less_battery = np.minimum(back, np.maximum(-points.battery_kw, 0))
    less_ev = np.minimum(back - less_battery, np.maximum(-points.ev_kw, 0))
    return SetPoints(
        points.battery_kw - from_battery + less_battery,
        points.ev_kw - from_ev + less_ev,
        points.hvac_kw - from_heat,
        points.pv_limit_kw,
    )


def shed_to_cap(state: State, points: SetPoints, cap_kw: float, policy: HemsPolicy) -> tuple[SetPoints, Floats]:
    """`points` changed so that all homes together import at most `cap_kw` where they can; how much each gave (N,) [kW].

    In this order, each in proportion to what a home can give: battery discharge, EV charging that can wait, V2G above
    its floor, heat where the room is above its comfort bound, and the rest of the heat down to the setback.
    """
    homes, report = state.homes, state.report
    net = points.net_kw(report["inflexible_kw"], report["pv_available_kw"])
    missing = float(net.sum()) - cap_kw
    given = np.zeros(len(homes))
    battery, ev, hvac = points.battery_kw.copy(), points.ev_kw.copy(), points.hvac_kw.copy()
    lowest, _ = battery_limits(homes, report["battery_soc"])
    indoor, low = report["indoor_c"], homes.comfort_low_c
    urgent = must_charge(state)
    spare_v2g = (report["ev_connected"] > 0.5) & ~urgent & (report["ev_soc"] > policy.v2g_floor_soc + 0.02)
    stages = (
        (battery, lowest),
        (ev, np.where(urgent, ev, np.minimum(ev, 0.0))),
        (ev, np.where(spare_v2g, np.minimum(ev, -homes.ev_v2g_kw), ev)),
        (hvac, np.where(indoor > low + 0.3, 0.0, hvac)),
        (hvac, np.where(indoor > low - policy.setback_k, 0.0, hvac)),
    )
    for values, floor in stages:
        room = np.maximum(values - floor, 0)
        total = float(room.sum())
        if missing <= 1e-9 or total <= 0:
            continue
        taken = min(1.0, missing / total) * room
        values -= taken
        given += taken
        missing -= float(taken.sum())
    return SetPoints(battery, ev, hvac, points.pv_limit_kw), given


def must_charge(state: State) -> NDArray[np.bool_]:
    """(N,) EVs that reach their target only if they charge at nearly full power from now on."""
    homes, report = state.homes, state.report
    short = np.maximum(report["ev_target_soc"] - report["ev_soc"], 0) * homes.ev_kwh / homes.ev_efficiency
    possible = 0.9 * homes.ev_max_kw * np.maximum(report["ev_departure_h"] - 1 / 30, 0)
    return np.asarray((report["ev_connected"] > 0.5) & (short > 0.05) & (short >= possible))
