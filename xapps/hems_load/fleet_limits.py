"""What all homes of a node owe together, in real time: import cap, ramp limit and frequency-response reserve.

Each step takes set-points and gives set-points that keep one limit as far as the homes can, with what each home gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.caps import Cap
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State
from xapps.hems_load.tracking import SetPoints, battery_limits, must_charge, must_run

__all__ = ["FleetLimits", "hold_ramp", "hold_reserve", "keep_fleet_limits", "reserve_of", "respond", "shed_to_cap"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DEAD_BAND_HZ, FULL_HZ = 0.02, 0.2
"""Frequency deviation below which the homes do nothing, and at which they give their whole reserve [Hz]."""
NOMINAL_HZ = 50.0
_TINY_KW = 1e-9


@dataclass(frozen=True)
class FleetLimits:
    """Set-points that keep the fleet's limits, what each home gave for the cap (N,) [kW], and what is still missing."""

    points: SetPoints
    given_kw: Floats
    ramp_miss_kw: float
    reserve_miss_kw: float
    response_kw: float
    """Power given for the frequency now."""


def keep_fleet_limits(
    state: State, points: SetPoints, caps: Sequence[Cap], policy: HemsPolicy, age_s: float
) -> FleetLimits:
    """Ramp, then reserve, then the response to the frequency, then the caps in their order, which are the last word.

    `age_s` is the time since the last set-points [s].
    """
    points, ramp_miss = hold_ramp(state, points, policy.ramp_limit_kw_per_min, age_s)
    points, reserve_miss = hold_reserve(state, points, policy)
    points, response = respond(state, points, policy)
    given = np.zeros(len(state.homes))
    for cap in caps:
        if np.isfinite(cap.kw):
            points, gave = shed_to_cap(state, points, cap, policy)
            given += gave
    if policy.reserve_kw > 0 and given.any():
        reserve_miss = max(policy.reserve_kw - float(reserve_of(state, points, policy).sum()) - response, 0.0)
    return FleetLimits(points, given, ramp_miss, reserve_miss, response)


def shed_to_cap(state: State, points: SetPoints, cap: Cap, policy: HemsPolicy) -> tuple[SetPoints, Floats]:
    """`points` changed so that the homes of `cap` together keep it where they can; how much each gave (N,) [kW].

    Steps, mildest first: battery discharge, appliances that can wait, EV charging that can wait, V2G above its floor,
    heat above the comfort bound, the rest of the heat down to the setback. `cap.fairness` 1 takes from each home in
    proportion to all that it could give, whatever the step; 0 takes each step from all homes before the next.
    """
    missing = float(cap.over_kw(points.net_kw(state)))
    given = np.zeros(len(state.homes))
    if missing <= _TINY_KW:
        return points, given
    points, delayed = _delay_appliances(state, points, cap.rows, missing)
    given += delayed
    missing -= float(delayed.sum())
    values = {name: getattr(points, name).copy() for name in ("battery_kw", "ev_kw", "hvac_kw")}
    stages = [(name, np.where(cap.rows, floor, np.inf)) for name, floor in _stages(state, values, policy)]
    rooms = _rooms(values, stages)
    total = sum(rooms, np.zeros(len(state.homes)))
    share = min(cap.fairness * max(missing, 0.0) / max(float(total.sum()), _TINY_KW), 1.0)
    quota = share * total  # what fairness asks of each home, taken mildest step first
    for (name, floor), room in zip(stages, rooms, strict=True):
        taken = np.minimum(np.minimum(quota, room), np.maximum(values[name] - floor, 0))
        values[name] -= taken
        quota = quota - taken
        given += taken
        missing -= float(taken.sum())
    for name, floor in stages:
        room = np.maximum(values[name] - floor, 0)
        if missing <= _TINY_KW or float(room.sum()) <= 0:
            continue
        taken = min(1.0, missing / float(room.sum())) * room
        values[name] -= taken
        given += taken
        missing -= float(taken.sum())
    return replace(points, **values), given


def _rooms(values: dict[str, Floats], stages: list[tuple[str, Floats]]) -> list[Floats]:
    """What each stage could still give after those before it have given all."""
    lowest = {name: value.copy() for name, value in values.items()}
    rooms = []
    for name, floor in stages:
        rooms.append(np.maximum(lowest[name] - floor, 0))
        lowest[name] = np.minimum(lowest[name], floor)
    return rooms


def _stages(state: State, values: dict[str, Floats], policy: HemsPolicy) -> list[tuple[str, Floats]]:
    homes, report = state.homes, state.report
    lowest, _ = battery_limits(homes, report["battery_soc"])
    ev, hvac, indoor, low = values["ev_kw"], values["hvac_kw"], report["indoor_c"], homes.comfort_low_c
    urgent = must_charge(state)
    floor_soc = np.maximum(policy.v2g_floor_soc, homes.ev_floor_soc) + 0.02
    spare_v2g = (report["ev_connected"] > 0.5) & ~urgent & (report["ev_soc"] > floor_soc)
    setback = np.where(report["occupied"] > 0.5, 0.0, np.minimum(policy.setback_k, homes.setback_k))
    return [
        ("battery_kw", lowest),
        ("ev_kw", np.where(urgent, ev, np.minimum(ev, 0.0))),
        ("ev_kw", np.where(spare_v2g, np.minimum(ev, -homes.ev_v2g_kw), ev)),
        ("hvac_kw", np.where(indoor > low + 0.3, 0.0, hvac)),
        ("hvac_kw", np.where(indoor > low - np.maximum(setback, policy.shed_below_k), 0.0, hvac)),
    ]


def _delay_appliances(state: State, points: SetPoints, homes_of: Bools, missing_kw: float) -> tuple[SetPoints, Floats]:
    """Let appliances wait that can, those with most time left first, for what the batteries cannot give."""
    jobs, homes = state.jobs, len(state.homes)
    lowest, _ = battery_limits(state.homes, state.report["battery_soc"])
    missing_kw -= float(np.maximum(points.battery_kw - lowest, 0)[homes_of].sum())
    can_wait = points.run & ~must_run(state) & (jobs.left_h > 0) & homes_of[jobs.home]
    if missing_kw <= 0 or not can_wait.any():
        return points, np.zeros(homes)
    rows = np.flatnonzero(can_wait)
    rows = rows[np.argsort(-(jobs.closes_h - jobs.left_h)[rows], kind="stable")]
    before = np.concatenate([[0.0], np.cumsum(jobs.power_kw[rows])[:-1]])
    delayed = np.zeros(len(jobs), dtype=bool)
    delayed[rows[before < missing_kw]] = True
    return replace(points, run=points.run & ~delayed), jobs.by_home(np.where(delayed, jobs.power_kw, 0.0), homes)


def hold_ramp(state: State, points: SetPoints, limit_kw_per_min: float | None, age_s: float) -> tuple[SetPoints, float]:
    """The change of what the homes import together held to the limit, by moving batteries, cars and heat pumps only
    part of the way; and the change beyond it that the load alone makes [kW].
    """
    if limit_kw_per_min is None:
        return points, 0.0
    report = state.report
    last = float((report["import_kw"] - report["export_kw"]).sum())
    room = limit_kw_per_min * max(age_s, 1.0) / 60
    held = replace(
        points, battery_kw=report["battery_kw"].copy(), hvac_kw=report["hvac_kw"].copy(),
        ev_kw=np.where(report["ev_connected"] > 0.5, report["ev_kw"], 0.0),
    )  # fmt: skip
    start, end = float(held.net_kw(state).sum()), float(points.net_kw(state).sum())
    target = float(np.clip(end, last - room, last + room))
    if abs(end - target) <= _TINY_KW:
        return points, 0.0
    span = end - start
    part = float(np.clip((target - start) / span, 0, 1)) if abs(span) > _TINY_KW else 0.0
    names = ("battery_kw", "ev_kw", "hvac_kw")
    moved = {name: getattr(held, name) + part * (getattr(points, name) - getattr(held, name)) for name in names}
    result = replace(points, **moved)
    net = float(result.net_kw(state).sum())
    return result, max(abs(net - last) - room, 0.0)


def reserve_of(state: State, points: SetPoints, policy: HemsPolicy) -> Floats:
    """(N,) power [kW] by which each home can lower its import at once and keep it so for `reserve_hold_min`."""
    homes, report = state.homes, state.report
    hours = policy.reserve_hold_min / 60
    held_kw = report["battery_soc"] * homes.battery_kwh * homes.battery_efficiency / hours
    battery = np.maximum(points.battery_kw + np.minimum(homes.battery_max_kw, held_kw), 0)
    stops = np.where(must_charge(state), 0.0, np.maximum(points.ev_kw, 0))
    return np.asarray(np.where(homes.battery_kwh > 0, battery, 0.0) + stops)


def hold_reserve(state: State, points: SetPoints, policy: HemsPolicy) -> tuple[SetPoints, float]:
    """Less discharge (then charging) of batteries until the homes together hold `reserve_kw`; what is missing [kW]."""
    if policy.reserve_kw <= 0:
        return points, 0.0
    short = policy.reserve_kw - float(reserve_of(state, points, policy).sum())
    if short <= 0:
        return points, 0.0
    homes, report = state.homes, state.report
    _, highest = battery_limits(homes, report["battery_soc"])
    for top in (np.minimum(np.zeros(len(homes)), highest), highest):
        room = np.maximum(top - points.battery_kw, 0)
        total = float(room.sum())
        if short <= _TINY_KW or total <= 0:
            continue
        # A battery too empty to hold its discharge gives less than it is raised by: `reserve_of` has the last word.
        points = replace(points, battery_kw=points.battery_kw + min(1.0, short / total) * room)
        short = policy.reserve_kw - float(reserve_of(state, points, policy).sum())
    return points, max(short, 0.0)


def respond(state: State, points: SetPoints, policy: HemsPolicy) -> tuple[SetPoints, float]:
    """The share of the reserve that the frequency asks for now, from each home in proportion to what it holds."""
    if policy.reserve_kw <= 0 or state.storage is None:
        return points, 0.0
    low_hz = NOMINAL_HZ - float(state.storage["frequency_hz"].mean()) - DEAD_BAND_HZ
    share = float(np.clip(low_hz / (FULL_HZ - DEAD_BAND_HZ), 0, 1))
    reserve = reserve_of(state, points, policy)
    wanted = min(share * policy.reserve_kw, float(reserve.sum()))
    if wanted <= 0:
        return points, 0.0
    taken = wanted / float(reserve.sum()) * reserve
    from_ev = np.minimum(taken, np.where(must_charge(state), 0.0, np.maximum(points.ev_kw, 0)))
    moved = replace(points, ev_kw=points.ev_kw - from_ev, battery_kw=points.battery_kw - (taken - from_ev))
    return moved, wanted
