"""From the state of a node to one programme per home: bounds, targets, prices and end values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.home_lp import HomeProblem
from xapps.hems_load.model import cop_at, heat_loss_factor
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import STEP_S, State

__all__ = ["HOURS", "FleetProblems", "pose_fleet"]

Floats = NDArray[np.float64]

HOURS = STEP_S / 3600
OVER_CONTRACT_EUR_PER_KWH = 5.0
EV_SHORT_EUR_PER_KWH = 3.0
SOONER_EUR_PER_KWH = 1e-3
"""What later imports cost more over the horizon: of equal prices the earlier is taken, and cars are full sooner."""
PRICE_GAP = 1e-3
"""Least difference of import and export price in a plan [EUR/kWh]: without one, both could flow at once."""
END_VALUE_SHARE = 0.9
"""Value of energy left in a battery at the end of the horizon over the mean import price."""
COMFORT_MARGIN_K = 0.1
"""Kept above the lower bound: gains and weather differ from what is expected."""
HEAT_VALUE_SHARE = 0.5
"""Value of warmth left at the end of the horizon over what it costs to make, as part of it is lost."""
EV_VALUE_SHARE = 0.6
"""Value of EV energy above the target over the mean import price: it saves charging later, perhaps elsewhere."""


@dataclass(frozen=True)
class FleetProblems:
    """One problem per home, all of `steps` steps."""

    homes: tuple[HomeProblem, ...]
    steps: int


def pose_fleet(state: State, policy: HemsPolicy) -> FleetProblems:
    """The problems of all homes of `state` under `policy`."""
    horizon, homes, report = state.horizon, state.homes, state.report
    steps = horizon.buy.shape[1]
    carbon = policy.carbon_eur_per_t / 1e6 * horizon.carbon_g_per_kwh
    tariff = policy.price_weight * (horizon.buy + carbon) + SOONER_EUR_PER_KWH * np.linspace(0, 1, steps)
    buy = tariff + _own_view(state.time_s, len(homes), steps, policy.spread_eur_per_kwh)
    sell = np.minimum(policy.price_weight * horizon.sell, buy - PRICE_GAP)
    mean = tariff.mean(axis=1)
    left = heat_loss_factor(homes, STEP_S)
    cop = cop_at(homes, horizon.outdoor_c)
    warm = (1 - left)[:, None] / homes.heat_loss_kw_per_k[:, None] * cop
    drift = (1 - left)[:, None] * (horizon.outdoor_c[None, :] + (state.gains_kw / homes.heat_loss_kw_per_k)[:, None])
    low = (
        homes.comfort_low_c[:, None]
        - np.minimum(policy.setback_k, homes.setback_k)[:, None] * (1 - horizon.occupied)
        + COMFORT_MARGIN_K
    )
    high = np.broadcast_to(homes.comfort_high_c[:, None], low.shape)
    here, floor, target = _ev_stay(state, policy)
    end_battery = END_VALUE_SHARE * mean * homes.battery_efficiency
    end_heat = HEAT_VALUE_SHARE * mean * homes.heat_capacity_kwh_per_k / cop.mean(axis=1)
    prices = (
        OVER_CONTRACT_EUR_PER_KWH, policy.wear_eur_per_kwh, policy.v2g_wear_eur_per_kwh, policy.comfort_eur_per_k_h,
        EV_SHORT_EUR_PER_KWH,
    )  # fmt: skip
    battery_now = np.clip(report["battery_soc"], 0, 1) * homes.battery_kwh
    ev_now = np.clip(report["ev_soc"], 0, 1) * homes.ev_kwh * report["ev_connected"]
    problems = tuple(
        HomeProblem(
            hours=HOURS,
            load_kw=horizon.load_kw[n],
            pv_kw=horizon.pv_kw[n] + horizon.wind_kw[n],
            buy=buy[n],
            sell=sell[n],
            connection_kw=float(homes.connection_kw[n]),
            export_allowed=policy.export_allowed,
            has_battery=bool(homes.battery_kwh[n] > 0),
            has_ev=bool(homes.ev_kwh[n] > 0),
            has_heat_pump=bool(homes.hvac_max_kw[n] > 0),
            battery=(battery_now[n], homes.battery_kwh[n], homes.battery_max_kw[n], homes.battery_efficiency[n]),
            ev=(ev_now[n], homes.ev_kwh[n], homes.ev_max_kw[n], homes.ev_v2g_kw[n], homes.ev_efficiency[n]),
            ev_here=here[n],
            ev_floor_kwh=floor[n],
            ev_target_kwh=target[n],
            heat_pump_kw=float(homes.hvac_max_kw[n]),
            indoor_c=float(report["indoor_c"][n]),
            left=float(left[n]),
            warm_c_per_kw=warm[n],
            drift_c=drift[n],
            low_c=low[n],
            high_c=high[n],
            prices=(*prices, EV_VALUE_SHARE * float(mean[n]) if report["ev_connected"][n] else 0.0),
            end_values=(float(end_battery[n]), float(end_heat[n])),
        )
        for n in range(len(homes))
    )
    return FleetProblems(problems, steps)


def _own_view(time_s: float, homes: int, steps: int, spread: float) -> Floats:
    """(N, T) what each home adds to the tariff [EUR/kWh], -spread..spread: fixed per home and hour of the calendar, so
    that the next plan sees the same, and linear in between.
    """
    hours = (time_s + STEP_S * np.arange(steps)) / 3600
    first = int(hours[0])
    knots = np.array([np.random.default_rng(first + n).uniform(-1, 1, homes) for n in range(int(steps * HOURS) + 2)])
    whole = hours.astype(int) - first
    share = hours - hours.astype(int)
    return np.asarray(spread * ((1 - share)[:, None] * knots[whole] + share[:, None] * knots[whole + 1])).T


def _ev_stay(state: State, policy: HemsPolicy) -> tuple[Floats, Floats, Floats]:
    """(N, T) 1 while the EV stays, the energy that it may not go below and that which it is to hold then [kWh].

    It leaves at the announced time, so the step in which that falls does not count. Below the V2G floor nothing is
    discharged; a car that came home below it is not forced up at once, but never goes down.
    """
    homes, report = state.homes, state.report
    steps = state.horizon.buy.shape[1]
    stays = np.floor(report["ev_departure_h"] / HOURS + 1e-6).astype(int)
    connected = report["ev_connected"] > 0.5
    step = np.arange(steps)[None, :]
    here = ((step < stays[:, None]) & connected[:, None]).astype(float)
    target = report["ev_target_soc"] * homes.ev_kwh
    now = report["ev_soc"] * homes.ev_kwh
    lowest_soc = np.maximum(policy.v2g_floor_soc, homes.ev_floor_soc)
    floor = np.where(connected, np.minimum(lowest_soc * homes.ev_kwh, now), 0.0)
    lowest = np.broadcast_to(floor[:, None], here.shape)
    # A stay beyond the horizon still has the rest of its time to charge at 90 % of full power.
    later = np.maximum(stays - steps, 0) * HOURS * 0.9 * homes.ev_max_kw * homes.ev_efficiency
    wanted = np.maximum(target - later, 0)
    last = np.clip(stays - 1, 0, steps - 1)
    due = (step >= last[:, None]) & (connected & (stays > 0))[:, None]
    return here, lowest, np.where(due, wanted[:, None], 0.0)
