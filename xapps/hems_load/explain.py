"""Why each device of each home does what it does: a code, the numbers behind it, and a sentence.

A line is made when a device's code changes, and for all devices at the first plan, so that the newest line on the bus
says what a device is doing now and since when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.caps import Cap
from xapps.hems_load.fleet_problem import FleetPlan
from xapps.hems_load.horizon import NS
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.projection import Projected
from xapps.hems_load.state import State
from xapps.hems_load.tracking import PlanNow, must_charge

__all__ = ["Explainer", "Moment"]

Floats = NDArray[np.float64]
Codes = NDArray[np.str_]

_ON_KW = 0.05
NEAR = 0.05
"""A cap binds while no more than this share of it is free [1]."""
MOST_LINES = 400
"""Lines per decision; what is beyond waits for the next."""


@dataclass(frozen=True)
class Moment:
    """One decision, as it was made."""

    state: State
    policy: HemsPolicy
    plan: FleetPlan
    start_ns: NDArray[np.int64]
    """(N,) when each home's plan began."""
    plan_now: PlanNow
    safe: Projected
    given_kw: Floats
    caps: Sequence[Cap]

    def cap_for(self, row: int) -> str:
        """The cap for which a home gives: of those that it is under and that bind, the first."""
        net_kw = self.safe.points.net_kw(self.state)
        own = [cap for cap in self.caps if cap.rows[row] and np.isfinite(cap.kw)]
        binding = [cap for cap in own if cap.over_kw(net_kw) > -NEAR * abs(float(cap.kw)) - _ON_KW]
        cap = (binding or own)[0]
        return f"the homes {f'of {cap.name} ' if cap.name else ''}together may import {float(cap.kw):.0f} kW"

    def step_of(self, row: int) -> int:
        """Step of the home's plan that holds now."""
        return int(self.state.steps.at(self.start_ns[[row]], self.state.source_time_ns)[0])


@dataclass(frozen=True)
class Explainer:
    """The codes told last, by device kind, with the ids of the homes or appliances that they are of."""

    told: Mapping[str, tuple[tuple[str, ...], Codes]] = field(default_factory=dict)

    def lines(self, moment: Moment) -> tuple[dict[str, str], Explainer]:
        """`node/home/device` -> "CODE name=value ...: sentence", for what has changed; and what is then told."""
        state, lines, told = moment.state, dict[str, str](), dict(self.told)
        for device, (codes_of, line_of) in _DEVICES.items():
            ids = state.jobs.ids if device == "appliance" else state.homes.ids
            codes, last = codes_of(moment), self._last(device, ids)
            rows = np.flatnonzero((codes != last) & (codes != ""))[: max(MOST_LINES - len(lines), 0)]
            for row in rows.tolist():
                numbers, sentence = line_of(moment, row, str(codes[row]))
                shown = " ".join(f"{name}={value:.3g}" for name, value in numbers.items())
                name = state.jobs.ids[row] if device == "appliance" else f"{state.homes.ids[row]}/{device}"
                lines[f"{state.node}/{name}"] = f"{codes[row]} {shown}: {sentence}"
            last = last.copy()
            last[rows] = codes[rows]
            last[codes == ""] = ""
            told[device] = ids, last
        return lines, Explainer(told)

    def _last(self, device: str, ids: tuple[str, ...]) -> Codes:
        """The codes told last of `ids`; empty for those that are new."""
        known, codes = self.told.get(device, ((), np.empty(0, dtype="<U32")))
        if known == ids:
            return codes
        by_id = dict(zip(known, codes.tolist(), strict=True))
        return np.array([by_id.get(each, "") for each in ids], dtype="<U32")


def _codes(cases: list[tuple[NDArray[np.bool_], str]]) -> Codes:
    """(N,) the first case that holds; empty where none does."""
    return np.select([where for where, _ in cases], [code for _, code in cases], default="").astype("<U32")


def _clock(moment: Moment, hours: float) -> str:
    """Time of day `hours` from now (UTC)."""
    minutes = round((moment.state.time_s / 60 + hours * 60) % 1440) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _price(moment: Moment, row: int) -> dict[str, float]:
    buy, sell = moment.state.prices_now
    numbers = {"buy_eur_per_kwh": float(buy[row]), "sell_eur_per_kwh": float(sell[row])}
    fleet = float(moment.plan.fleet_price[moment.step_of(row)])
    return numbers | ({"fleet_price_eur_per_kwh": fleet} if fleet > 0 else {})


# EV -----------------------------------------------------------------------------------------------------------


def _ev_codes(moment: Moment) -> Codes:
    state, ev = moment.state, moment.safe.points.ev_kw
    report = state.report
    here = (state.homes.ev_kwh > 0) & (report["ev_connected"] > 0.5)
    full = report["ev_soc"] >= report["ev_target_soc"] - 1e-3
    shed = (moment.given_kw > _ON_KW) & (moment.plan_now.ev_kw > ev + _ON_KW)
    return _codes(
        [
            (state.homes.ev_kwh <= 0, ""),
            (~here, "EV_AWAY"),
            (state.stale, "EV_STALE_REPORT"),
            (must_charge(state) & (ev > _ON_KW), "EV_MUST_CHARGE"),
            (ev > _ON_KW, "EV_CHARGES"),
            (ev < -_ON_KW, "EV_GIVES_BACK"),
            (shed, "EV_STOPPED_FOR_CAP"),
            (full, "EV_READY"),
            (np.ones(ev.size, dtype=bool), "EV_WAITS"),
        ],
    )


def _ev_line(moment: Moment, row: int, code: str) -> tuple[dict[str, float], str]:
    state = moment.state
    if code == "EV_AWAY":
        return {}, "The car is not plugged in."
    report, own = state.report, state.homes
    soc, target, leaves_h = (float(report[name][row]) for name in ("ev_soc", "ev_target_soc", "ev_departure_h"))
    need = max(target - soc, 0.0) * float(own.ev_kwh[row])
    numbers = {
        "soc": soc, "target_soc": target, "needs_kwh": need, "departure_h": leaves_h,
        "ev_kw": float(moment.safe.points.ev_kw[row]), **_price(moment, row),
    }  # fmt: skip
    ready = f"{soc:.0%} now, {target:.0%} wanted at {_clock(moment, leaves_h)}"
    now_price = f"{numbers['buy_eur_per_kwh']:.2f} EUR/kWh"
    after_h, after_price = _next_charge(moment, row)
    later = (
        f"it charges from {_clock(moment, after_h)} on, at {after_price:.2f} EUR/kWh"
        if after_h >= 0
        else "no more charging is planned within the horizon"
    )
    short = float(moment.plan.relaxed.get("EV_TARGET_RELAXED", np.zeros(row + 1))[row])
    missing = f" The plan falls {short:.1f} kWh short of the target: the stay is too short." if short > 0.05 else ""
    capped = moment.cap_for(row) if code == "EV_STOPPED_FOR_CAP" else ""
    sentences = {
        "EV_CHARGES": f"Charging at {now_price}, {ready}.",
        "EV_MUST_CHARGE": f"Charging whatever it costs ({now_price}): the time left is just enough; {ready}.",
        "EV_GIVES_BACK": f"Feeding the home and the grid while power is worth {now_price}; {ready}, and {later}.",
        "EV_STOPPED_FOR_CAP": f"Stopped: {capped}; {ready}, {later}.",
        "EV_READY": f"The target is reached ({ready}).",
        "EV_WAITS": f"Waiting because power costs {now_price} now; {ready}, {later}.",
        "EV_STALE_REPORT": "The home's report is old, so the car simply charges to its target.",
    }
    return numbers, sentences[code] + missing


def _next_charge(moment: Moment, row: int) -> tuple[float, float]:
    """Hours until the plan charges the car next, and the import price then; -1 where it does not."""
    step = moment.step_of(row)
    ahead = np.flatnonzero(moment.plan.ev_kw[row, step + 1 :] > _ON_KW)
    if not ahead.size:
        return -1.0, 0.0
    start_ns = int(moment.start_ns[row])
    begins_ns = moment.state.steps.edges_ns(start_ns)[step + 1 + int(ahead[0])]
    after_h = (int(begins_ns) - moment.state.source_time_ns) / NS / 3600
    now = min(int(np.searchsorted(moment.state.edges_h, after_h, "right")), moment.state.edges_h.size - 1) - 1
    return after_h, float(moment.state.horizon.buy[row, now])


# Battery, heat, PV and wind, appliances -----------------------------------------------------------------------


def _battery_codes(moment: Moment) -> Codes:
    battery = moment.safe.points.battery_kw
    moved = np.abs(battery - moment.plan_now.battery_kw) > _ON_KW
    return _codes(
        [
            (moment.state.homes.battery_kwh <= 0, ""),
            (moment.state.stale, "BATTERY_STALE_REPORT"),
            ((battery < -_ON_KW) & (moment.given_kw > _ON_KW), "BATTERY_GIVES_FOR_CAP"),
            ((battery > _ON_KW) & moved, "BATTERY_TAKES_SURPLUS"),
            (battery > _ON_KW, "BATTERY_CHARGES"),
            (battery < -_ON_KW, "BATTERY_GIVES"),
            (np.ones(battery.size, dtype=bool), "BATTERY_RESTS"),
        ],
    )


def _battery_line(moment: Moment, row: int, code: str) -> tuple[dict[str, float], str]:
    price, soc = _price(moment, row), float(moment.state.report["battery_soc"][row])
    worth = float(moment.plan.marginal_price[row, moment.step_of(row)])
    numbers = {"soc": soc, "battery_kw": float(moment.safe.points.battery_kw[row]), "worth_eur_per_kwh": worth, **price}
    cost = f"{price['buy_eur_per_kwh']:.2f} EUR/kWh"
    capped = moment.cap_for(row) if code == "BATTERY_GIVES_FOR_CAP" else ""
    sentences = {
        "BATTERY_CHARGES": f"Charging as planned at {cost}, {soc:.0%} full: the energy is worth more later.",
        "BATTERY_TAKES_SURPLUS": f"Taking up what the home has left over, {soc:.0%} full.",
        "BATTERY_GIVES": f"Serving the home instead of importing at {cost}, {soc:.0%} full.",
        "BATTERY_GIVES_FOR_CAP": f"Giving because {capped}.",
        "BATTERY_RESTS": f"Resting at {soc:.0%}: neither charging nor giving pays at {cost} after losses and wear.",
        "BATTERY_STALE_REPORT": "The home's report is old, so the battery rests.",
    }
    return numbers, sentences[code]


def _heat_codes(moment: Moment) -> Codes:
    state, hvac = moment.state, moment.safe.points.hvac_kw
    guard = moment.safe.changed.get("ROOM_GUARD", np.zeros(hvac.size, dtype=bool))
    shed = (moment.given_kw > _ON_KW) & (moment.plan_now.hvac_kw > hvac + _ON_KW)
    return _codes(
        [
            (state.homes.hvac_max_kw <= 0, ""),
            (state.stale, "HEAT_STALE_REPORT"),
            (guard & (hvac > _ON_KW), "HEAT_GUARD"),
            (guard, "HEAT_TOO_WARM"),
            (shed, "HEAT_LESS_FOR_CAP"),
            (hvac > _ON_KW, "HEAT_RUNS"),
            (np.ones(hvac.size, dtype=bool), "HEAT_RESTS"),
        ],
    )


def _heat_line(moment: Moment, row: int, code: str) -> tuple[dict[str, float], str]:
    state = moment.state
    indoor, low = float(state.report["indoor_c"][row]), float(state.homes.comfort_low_c[row])
    numbers = {"indoor_c": indoor, "comfort_low_c": low, "hvac_kw": float(moment.safe.points.hvac_kw[row])}
    numbers |= _price(moment, row)
    room, cost = f"{indoor:.1f} degC, lower bound {low:.1f}", f"{numbers['buy_eur_per_kwh']:.2f} EUR/kWh"
    capped = moment.cap_for(row) if code == "HEAT_LESS_FOR_CAP" else ""
    sentences = {
        "HEAT_RUNS": f"Heating now at {cost} keeps the room comfortable for least cost ({room}).",
        "HEAT_RESTS": f"The room stays comfortable without heating for now ({room}), and power costs {cost}.",
        "HEAT_GUARD": f"Heating at full power: the room is too cold ({room}), whatever the plan says.",
        "HEAT_TOO_WARM": f"No heating: the room is too warm ({room}).",
        "HEAT_LESS_FOR_CAP": f"Less heat because {capped} ({room}).",
        "HEAT_STALE_REPORT": "The home's report is old, so the heat pump holds the room comfortable.",
    }
    return numbers, sentences[code]


def _renewable_codes(moment: Moment) -> Codes:
    report, points = moment.state.report, moment.safe.points
    available = report["pv_available_kw"] + report["wind_available_kw"]
    fed = np.minimum(report["pv_available_kw"], points.pv_limit_kw)
    fed = fed + np.minimum(report["wind_available_kw"], points.wind_limit_kw)
    own = moment.state.homes
    return _codes(
        [
            (own.pv_kwp + own.wind_rated_kw <= 0, ""),
            (available - fed > _ON_KW, "GENERATION_CURTAILED"),
            (np.ones(fed.size, dtype=bool), "GENERATION_FREE"),
        ],
    )


def _renewable_line(moment: Moment, row: int, code: str) -> tuple[dict[str, float], str]:
    report, points = moment.state.report, moment.safe.points
    numbers = {
        "pv_available_kw": float(report["pv_available_kw"][row]), "pv_limit_kw": float(points.pv_limit_kw[row]),
        "wind_available_kw": float(report["wind_available_kw"][row]), "wind_limit_kw": float(points.wind_limit_kw[row]),
        "export_limit_kw": float(moment.state.homes.export_limit_kw[row]), **_price(moment, row),
    }  # fmt: skip
    if code == "GENERATION_FREE":
        return numbers, "PV and wind feed in all they can."
    why = (
        "exports are forbidden by policy" if not moment.policy.export_allowed else "more would not pay or pass a limit"
    )
    return numbers, f"PV or wind is held back: {why}."


def _appliance_codes(moment: Moment) -> Codes:
    jobs, run = moment.state.jobs, moment.safe.points.run
    return _codes(
        [
            (jobs.left_h <= 0, "APPLIANCE_IDLE"),
            (run & jobs.running & ~jobs.interruptible, "APPLIANCE_RUNS"),
            (run, "APPLIANCE_STARTS"),
            (jobs.opens_h > 1e-6, "APPLIANCE_NOT_YET"),
            (np.ones(run.size, dtype=bool), "APPLIANCE_WAITS"),
        ],
    )


def _appliance_line(moment: Moment, row: int, code: str) -> tuple[dict[str, float], str]:
    jobs = moment.state.jobs
    left, opens, closes = (float(values[row]) for values in (jobs.left_h, jobs.opens_h, jobs.closes_h))
    price = _price(moment, int(jobs.home[row]))
    numbers = {"left_h": left, "opens_h": opens, "closes_h": closes, "power_kw": float(jobs.power_kw[row]), **price}
    cost, done = f"{price['buy_eur_per_kwh']:.2f} EUR/kWh", f"it has to be done by {_clock(moment, closes)}"
    sentences = {
        "APPLIANCE_IDLE": "Nothing to do.",
        "APPLIANCE_RUNS": f"Running in one piece, {left:.2f} h left.",
        "APPLIANCE_STARTS": f"Running now at {cost}, {left:.2f} h to go; {done}.",
        "APPLIANCE_NOT_YET": f"Its window opens at {_clock(moment, opens)}; {done}.",
        "APPLIANCE_WAITS": f"Waiting, since a later time costs less than {cost}; {done}, {left:.2f} h to run.",
    }
    return numbers, sentences[code]


_Line = Callable[[Moment, int, str], tuple[dict[str, float], str]]
_DEVICES: dict[str, tuple[Callable[[Moment], Codes], _Line]] = {
    "ev": (_ev_codes, _ev_line),
    "battery": (_battery_codes, _battery_line),
    "heat": (_heat_codes, _heat_line),
    "generation": (_renewable_codes, _renewable_line),
    "appliance": (_appliance_codes, _appliance_line),
}
