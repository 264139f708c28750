"""Between two plans: at each report the set-points follow the plan and answer to what PV, wind and load really do.

Reports may come each minute or each second; nothing here looks at the horizon, so a step costs microseconds per home.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.model import Homes, cop_at, heat_loss_factor
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State

__all__ = ["NO_LIMIT_KW", "PlanNow", "SetPoints", "battery_limits", "must_charge", "must_run", "track"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_LIMIT_KW = 100.0
"""PV or wind limit that limits nothing: the schema's upper bound [kW]."""
EXPORT_MARGIN = 0.2
"""Share of the load that stays on the grid where exports are forbidden [1]."""
_NEAR_ZERO_KW = 0.15
"""A planned exchange below this is meant to be none [kW]."""
_NO_POWER_KW = 0.02
"""What a plan gives a car below this is the solver's rounding [kW]."""
_HOLD_H = 1 / 12
"""Stored energy must last this long at the power that is asked for [h]: five times the usual time to the next."""
_AHEAD_S = 900.0
"""How far ahead a room is looked at [s]: heat that holds the band over this time never has to come in bursts."""
_BAND_MARGIN_K = 0.05
"""Kept to the bounds of the band by that look ahead, half of what the plan keeps."""
_START_AHEAD_H = 1 / 12
"""An appliance is started this long before the last moment that meets its deadline [h]."""


@dataclass(frozen=True)
class PlanNow:
    """The plans' step that holds now, (N,) [kW]; `pv_kw` is what the plan feeds in of `pv_expected_kw`, so for wind."""

    net_kw: Floats
    battery_kw: Floats
    ev_kw: Floats
    hvac_kw: Floats
    pv_kw: Floats
    pv_expected_kw: Floats
    wind_kw: Floats
    wind_expected_kw: Floats
    run: Bools
    """(K,) appliances that the plan has running now."""


@dataclass(frozen=True)
class SetPoints:
    """Set-points (N,) [kW], battery and EV > 0 charge; `run` (K,) of the appliances."""

    battery_kw: Floats
    ev_kw: Floats
    hvac_kw: Floats
    pv_limit_kw: Floats
    wind_limit_kw: Floats
    run: Bools

    def net_kw(self, state: State) -> Floats:
        """(N,) power at the meters that they lead to if load, PV and wind stay as `state` reports them."""
        return np.asarray(self.rest_kw(state) + self.battery_kw)

    def rest_kw(self, state: State) -> Floats:
        """(N,) the same without the batteries."""
        report = state.report
        pv = np.minimum(report["pv_available_kw"], self.pv_limit_kw)
        wind = np.minimum(report["wind_available_kw"], self.wind_limit_kw)
        used = report["inflexible_kw"] + self.appliance_kw(state) + self.hvac_kw + self.ev_kw
        return np.asarray(used - pv - wind)

    def appliance_kw(self, state: State) -> Floats:
        """(N,) power of the appliances that run."""
        jobs = state.jobs
        return jobs.by_home(np.where(self.run & (jobs.left_h > 0), jobs.power_kw, 0.0), len(state.homes))


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
    on a load that the grid serves more cheaply. A car whose target was reached takes only what the plan gives it. Rooms
    stay in their band, whatever the plan thought of sun, people and weather.
    """
    homes, report = state.homes, state.report
    ev = np.where((report["ev_connected"] > 0.5) & (np.abs(plan.ev_kw) > _NO_POWER_KW), plan.ev_kw, 0.0)
    points = SetPoints(
        np.zeros(len(homes)), ev, _in_band(state, plan.hvac_kw, policy), _limit(plan.pv_kw, plan.pv_expected_kw),
        _limit(plan.wind_kw, plan.wind_expected_kw), plan.run.copy(),
    )  # fmt: skip
    rest = points.rest_kw(state)
    kept = rest + plan.battery_kw
    balances = np.abs(plan.net_kw) <= _NEAR_ZERO_KW
    crosses = np.where(plan.net_kw > 0, kept < 0, kept > 0)
    battery = np.where(balances | crosses, -rest, plan.battery_kw)
    points = replace(points, battery_kw=np.clip(battery, *battery_limits(homes, report["battery_soc"])))
    if not policy.export_allowed:
        points = _without_export(points, state)
    return _within_contract(points, state)


def _in_band(state: State, hvac_kw: Floats, policy: HemsPolicy) -> Floats:
    """(N,) the nearest heat to `hvac_kw` with which a room, as it gains and loses heat now, is still in its band after
    `_AHEAD_S`. An empty room may be as cold as the plan wants it, and warmer by the owner's setback.
    """
    homes, report = state.homes, state.report
    outdoor = np.atleast_1d(report["outdoor_c"].mean())
    left = heat_loss_factor(homes, _AHEAD_S)
    unheated = report["indoor_c"] * left + (1 - left) * (outdoor + state.gains_kw / homes.heat_loss_kw_per_k)
    kelvin_per_kw = (1 - left) / homes.heat_loss_kw_per_k * cop_at(homes, outdoor)[:, 0]
    used = report["occupied"] > 0.5
    least = np.where(used, (homes.comfort_low_c + _BAND_MARGIN_K - unheated) / kelvin_per_kw, 0.0)
    setback = np.where(used, 0.0, np.minimum(policy.setback_k, homes.setback_k))
    most = (homes.comfort_high_c + setback - _BAND_MARGIN_K - unheated) / kelvin_per_kw
    # A number that is none, reported by one home, leaves the others as planned.
    return np.clip(np.fmax(np.fmin(hvac_kw, most), least), 0, homes.hvac_max_kw)


def _limit(fed_kw: Floats, expected_kw: Floats) -> Floats:
    """A limit where the plan curtails, none where it does not."""
    return np.where(fed_kw < expected_kw - 0.05, fed_kw, NO_LIMIT_KW)


def _without_export(points: SetPoints, state: State) -> SetPoints:
    """Discharge no more than is used, and curtail wind and PV to what is used."""
    # The next minute may use less than the last, so part of the load is left to the grid.
    used = (1 - EXPORT_MARGIN) * state.report["inflexible_kw"] + points.appliance_kw(state) + points.hvac_kw
    ev = np.maximum(points.ev_kw, -used)
    battery = np.maximum(points.battery_kw, -np.maximum(used + ev, 0))
    room = np.maximum(used + ev + battery, 0)
    wind = np.minimum(state.report["wind_available_kw"], points.wind_limit_kw)
    return replace(
        points,
        battery_kw=battery,
        ev_kw=ev,
        wind_limit_kw=np.where(wind > room, room, NO_LIMIT_KW),
        pv_limit_kw=np.where(
            state.report["pv_available_kw"] > room - np.minimum(wind, room), room - np.minimum(wind, room), NO_LIMIT_KW
        ),
    )


def _within_contract(points: SetPoints, state: State) -> SetPoints:
    """Less charging, then less heat, where the meter would pass the contract; less discharge and less PV and wind where
    it would export too much. An appliance that runs in one piece is not touched.
    """
    homes = state.homes
    over = np.maximum(points.net_kw(state) - homes.connection_kw, 0)
    from_battery = np.minimum(over, np.maximum(points.battery_kw, 0))
    from_ev = np.minimum(over - from_battery, np.maximum(points.ev_kw, 0))
    from_heat = np.minimum(over - from_battery - from_ev, points.hvac_kw)
    back = np.maximum(-points.net_kw(state) - homes.export_limit_kw, 0)
    less_battery = np.minimum(back, np.maximum(-points.battery_kw, 0))
    less_ev = np.minimum(back - less_battery, np.maximum(-points.ev_kw, 0))
    left = back - less_battery - less_ev
    pv = np.minimum(state.report["pv_available_kw"], points.pv_limit_kw)
    wind = np.minimum(state.report["wind_available_kw"], points.wind_limit_kw)
    less_pv = np.minimum(left, pv)
    return replace(
        points,
        battery_kw=points.battery_kw - from_battery + less_battery,
        ev_kw=points.ev_kw - from_ev + less_ev,
        hvac_kw=points.hvac_kw - from_heat,
        pv_limit_kw=np.where(left > 0, pv - less_pv, points.pv_limit_kw),
        wind_limit_kw=np.where(left > less_pv, wind - np.minimum(left - less_pv, wind), points.wind_limit_kw),
    )


def must_charge(state: State) -> Bools:
    """(N,) EVs that reach their target only if they charge at nearly full power from now on.

    What they may give until the next decision is counted against them.
    """
    homes, report = state.homes, state.report
    short = np.maximum(report["ev_target_soc"] - report["ev_soc"], 0) * homes.ev_kwh / homes.ev_efficiency
    cycle_h = state.report_period_s / 3600
    possible = 0.9 * homes.ev_max_kw * np.maximum(report["ev_departure_h"] - 2 * cycle_h, 0)
    possible = possible - homes.ev_v2g_kw * cycle_h / homes.ev_efficiency
    return np.asarray((report["ev_connected"] > 0.5) & (short > 0.05) & (short >= possible))


def must_run(state: State) -> Bools:
    """(K,) appliances that have to run now: a run in one piece is under way, or the deadline leaves no more time."""
    jobs = state.jobs
    held = jobs.running & ~jobs.interruptible
    last = jobs.closes_h <= jobs.left_h + _START_AHEAD_H
    return np.asarray((jobs.left_h > 0) & (jobs.opens_h <= 1e-6) & (held | last))
