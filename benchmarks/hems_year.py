"""One year of homes in closed loop, a report and set-points each quarter of an hour: cost, peak and comfort.

`python -m benchmarks.hems_year [--json F] [--homes N] [--days D] [--start YYYY-MM-DD] [--prices CSV]`. The plant is the
simulator's (`e2sim/grid`: SimBench's year of 15-min profiles with 1-min texture), never the optimiser's own model.
Beside the app: no control (no battery, cars charge on arrival, a thermostat heats), rule-based (batteries follow the
meter), a day-ahead plan in the manner of EMHASS (one plan at midnight from the same forecasts, carried out to the
letter), and the app with perfect foresight of load, PV, wind, weather, occupancy and prices.

Forecasts are made of past reports only: of each quarter of an hour the mean of the days before, drawn towards what is
measured now. Prices are known until midnight, and from 13:00 on until the midnight after, as day-ahead markets publish
them; beyond, the mean of the last days stands in. `--prices` takes hourly EUR/MWh in the last column (xz or plain);
without it, and without the price data set beside the checkout, the simulator's seeded prices are used.

`peak_kw` is of all homes together, in a quarter of an hour. Nothing here prices it: homes pay for energy alone, all see
the same hours as cheap, and the small differences in view that the app gives them elsewhere are switched off, so that
costs compare. It may well lie above that of homes without control. What a home must keep is its contract:
`over_contract_kwh` is the energy beyond it. What a feeder must keep is for an import cap to say (`hems_fleet_cap`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import lzma
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import parser, write_result
from e2sim.grid.devices import make_fleet
from e2sim.grid.homes import HomeFleet
from e2sim.grid.outlook import Carbon, Tariff, prices_of
from e2sim.grid.settings import CarbonSettings, ResidentialSettings, TariffSettings
from e2sim.grid.simbench_profiles import load_grid
from e2sim.grid.traces import Traces
from ric.clock import to_ns
from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.decision import Decision
from xapps.hems_load.fleet_problem import FleetPlan
from xapps.hems_load.horizon import Horizon, Steps
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import Slots, pose_fleet, slots_of
from xapps.hems_load.projection import project
from xapps.hems_load.solver import Effort, solve_fleet, warm_up
from xapps.hems_load.state import NodeMemory, State
from xapps.hems_load.tracking import NO_LIMIT_KW, SetPoints

Floats = NDArray[np.float64]

PRICES = Path(__file__).resolve().parents[2] / "shared/data/prices/smard_dayahead_2015_17zones_hourly.csv.xz"
ZONE = "Germany_Austria_Luxembourg"
GRID = "1-LV-rural3--2-sw"
CYCLE_S, QUARTER_S, DAY_S, STEPS = 900, 900, 86_400, 96
PLAN_EVERY_S = 1_800.0
SEED = 2016
CONTROLLERS = ("no_control", "rule_based", "day_ahead_lp", "hems_load", "perfect_foresight")


@dataclass(frozen=True)
class Year:
    """What all controllers share."""

    homes: int
    days: int
    start_s: float
    spot_file: str
    seed: int = SEED


class Plant:
    """The simulator's homes of one grid, their traces and their prices."""

    def __init__(self, year: Year, *, batteries: bool = True) -> None:
        spot = Path(year.spot_file) if year.spot_file else None
        settings = ResidentialSettings(
            code=GRID, homes=year.homes, pv_share=0.75, tariff=TariffSettings(spot_file=spot)
        )
        grid = load_grid(GRID)
        fleet = make_fleet(grid, settings, year.seed)
        self.traces = Traces(grid, fleet, texture=settings.texture, seed=year.seed)
        self.tariff = Tariff(settings.tariff, start_s=year.start_s, seed=year.seed)
        if not batteries:
            none = np.zeros(len(fleet.ids))
            fleet = replace(fleet, devices=replace(fleet.devices, battery_kwh=none, battery_max_kw=none))
        self.homes = HomeFleet(
            fleet, self.traces, prices_of((self.tariff,), fleet.devices.tariff), start_s=year.start_s, days=year.days,
            carbon=Carbon(CarbonSettings(), start_s=year.start_s, seed=year.seed), seed=year.seed, sub_step_s=CYCLE_S,
        )  # fmt: skip


class Forecast:
    """The tables `outlook` and `tariffs`, from what was reported so far and the prices that are published."""

    def __init__(self, tariff: Tariff) -> None:
        self._published = functools.cache(tariff.__call__)
        self._past = {name: np.full((5, STEPS), np.nan) for name in ("pv", "wind", "outdoor")}
        self._prices = np.full((7, STEPS, 2), np.nan)

    def learn(self, report: Table, kwp: float, rated_kw: float) -> None:
        """Take one report; the newest of a quarter of an hour stands for it."""
        end_s = report.source_time_ns / 1e9
        day, quarter = divmod(int(end_s - 1), DAY_S)
        row, column = day % 5, quarter // QUARTER_S
        seen = {
            "pv": report["pv_available_kw"].sum() / max(kwp, 1e-9),
            "wind": report["wind_available_kw"].sum() / max(rated_kw, 1e-9),
            "outdoor": report["outdoor_c"].mean(),
        }
        for name, value in seen.items():
            self._past[name][row, column] = value

    def tables(self, now_s: float) -> dict[str, Table]:
        """What is expected of the next 36 h."""
        times = now_s + QUARTER_S * np.arange(STEPS + 48, dtype=np.float64)
        quarters = (times % DAY_S // QUARTER_S).astype(int)
        mean = {name: _mean_of_days(past)[quarters] for name, past in self._past.items()}
        prices = self._expected_prices(now_s, times)
        step, when = np.array([float(QUARTER_S)]), to_ns(now_s)
        columns = {
            "step_s": step, "buy_eur_per_kwh": prices[None, :, 0], "sell_eur_per_kwh": prices[None, :, 1],
            "outdoor_c": mean["outdoor"][None, :], "pv_kw_per_kwp": mean["pv"][None, :],
            "wind_kw_per_kw": mean["wind"][None, :],
        }  # fmt: skip
        tariffs = {name: columns[name] for name in ("step_s", "buy_eur_per_kwh", "sell_eur_per_kwh")}
        return {
            "outlook": Table("outlook", ("node",), columns, when),
            "tariffs": Table("tariffs", ("tariff-0",), tariffs, when),
        }

    def _expected_prices(self, now_s: float, times: Floats) -> Floats:
        """(K, 2) import and export price at `times` (K,): what is published, then the mean of the days before."""
        midnight = (now_s // DAY_S + (2 if now_s % DAY_S >= 13 * 3600 else 1)) * DAY_S
        day, quarter = (times // DAY_S).astype(int), (times % DAY_S // QUARTER_S).astype(int)
        known = times < midnight
        self._prices[day[known] % 7, quarter[known]] = [self._published(float(time_s)) for time_s in times[known]]
        seen = ~np.isnan(self._prices[..., 0])
        total, count = np.where(seen[..., None], self._prices, 0).sum(axis=0), seen.sum(axis=0)[:, None]
        mean = np.where(count > 0, total / np.maximum(count, 1), self._prices[seen].mean(axis=0))
        return np.asarray(np.where(known[:, None], self._prices[day % 7, quarter], mean[quarter]))


def _mean_of_days(past: Floats) -> Floats:
    """(STEPS,) mean over the days seen; what no day has shown yet is as the nearest that one has."""
    seen = ~np.isnan(past)
    total, count = np.where(seen, past, 0).sum(axis=0), seen.sum(axis=0)
    known = np.flatnonzero(count)
    if not known.size:
        return np.zeros(past.shape[1])
    return np.asarray(np.interp(np.arange(past.shape[1]), known, total[known] / count[known]))


class Foresight:
    """Horizons as they will be: `expect` of a state with the truth in it."""

    def __init__(self, plant: Plant, year: Year) -> None:
        self._plant, self._start_s = plant, year.start_s
        starts = year.start_s + QUARTER_S * np.arange((year.days + 2) * STEPS)
        traces = plant.traces
        means = np.array([traces.mean_kw(time_s) for time_s in starts])
        self._load, self._pv = means[:, 0].T, means[:, 1].T
        self._wind = np.array([traces.mean_wind_kw(time_s) for time_s in starts]).T
        self._outdoor = np.array([traces.outdoor_c(time_s + QUARTER_S / 2) for time_s in starts])
        self._occupied = np.array([traces.occupied(time_s + QUARTER_S - 1) for time_s in starts]).T.astype(float)
        self._prices = np.array([plant.tariff(time_s) for time_s in starts])

    def state(self, state: State) -> State:
        """`state` with a horizon that comes true."""
        first = (state.time_s - self._start_s) / QUARTER_S

        def expect() -> Horizon:
            whole, share = int(first), first - int(first)
            rows = slice(whole, whole + STEPS + 1)

            def means(values: Floats) -> Floats:
                part = values[..., rows]
                return np.asarray((1 - share) * part[..., :-1] + share * part[..., 1:])

            prices = np.broadcast_to(means(self._prices.T)[:, None, :], (2, len(state.homes), STEPS))
            return Horizon(
                means(self._load), means(self._pv), means(self._wind), self._occupied[:, rows][:, :-1],
                means(self._outdoor), prices[0], prices[1], np.zeros(STEPS),
            )  # fmt: skip

        return replace(state, expect=expect)


class DayAhead:
    """One plan at midnight, carried out to the letter: no correction by what load and PV really do."""

    def __init__(self) -> None:
        self._plan: FleetPlan | None = None
        self._made_s, self._slots, self._here = 0.0, Slots(np.zeros(0, dtype=int), np.zeros(0, dtype=int)), np.zeros(0)

    def decide(self, state: State, policy: HemsPolicy) -> SetPoints:
        """Set-points of the step that holds now; a car that came home since midnight charges as it would by itself."""
        if self._plan is None or state.time_s // DAY_S > self._made_s // DAY_S:
            self._plan, _ = solve_fleet(pose_fleet(state, policy), effort=Effort(threads=1))
            self._made_s, self._slots = state.time_s, slots_of(state.jobs)
            self._here = state.report["ev_connected"].copy()
        plan, report, jobs = self._plan, state.report, state.jobs
        step = int(min((state.time_s - self._made_s) // QUARTER_S, STEPS - 1))
        self._here = np.minimum(self._here, report["ev_connected"])
        free = np.where(report["ev_soc"] < report["ev_target_soc"], state.homes.ev_max_kw, 0.0) * report["ev_connected"]
        ev = np.where(self._here > 0.5, plan.ev_kw[:, step], free)
        run = np.zeros(len(jobs), dtype=bool)
        rows = np.flatnonzero(self._slots.interruptible >= 0)
        if rows.size:
            power = plan.appliance_kw[jobs.home[rows], self._slots.interruptible[rows], step]
            run[rows] = power > 0.5 * jobs.power_kw[rows]
        rows = np.flatnonzero(self._slots.shiftable >= 0)
        if rows.size:
            start = plan.shiftable_start[jobs.home[rows], self._slots.shiftable[rows]]
            run[rows] = (start >= 0) & (start <= step)
        free_kw = np.full(len(state.homes), NO_LIMIT_KW)
        points = SetPoints(plan.battery_kw[:, step], ev, plan.hvac_kw[:, step], free_kw, free_kw, run)
        return project(state, points, policy).points


def run(controller: str, year: Year) -> dict[str, Any]:
    """The year under one controller: totals of all homes, peak of the quarter-hour means [kW], wall time [s]."""
    began = time.perf_counter()
    plant = Plant(year, batteries=controller != "no_control")
    step = _controlled(controller, plant, year)
    imports: list[float] = []
    totals_before = plant.homes.totals()
    for cycle in range(year.days * DAY_S // CYCLE_S):
        end_s = year.start_s + CYCLE_S * (cycle + 1)
        tables = {table.kind: table for table in plant.homes.step(end_s, CYCLE_S)}
        imports.append(float(plant.homes.meter_kw.sum()))
        step(tables, end_s)
    totals = plant.homes.totals()
    figures = {name: float(values.sum()) for name, values in totals.items()}
    gained = sum(float((totals[name] - totals_before[name]).sum()) for name in ("battery_stored_kwh", "ev_stored_kwh"))
    quarter = np.array(imports).reshape(-1, QUARTER_S // CYCLE_S).mean(axis=1)
    return figures | {"peak_kw": float(quarter.max()), "gained_kwh": gained, "wall_s": time.perf_counter() - began}


def _controlled(controller: str, plant: Plant, year: Year) -> Callable[[dict[str, Table], float], None]:
    """What happens after each report."""
    if controller in ("no_control", "rule_based"):
        return lambda *_: None
    warm_up()
    memory, policy, devices = NodeMemory(), HemsPolicy(spread_eur_per_kwh=0.0), plant.homes.devices
    forecast = Forecast(plant.tariff)
    foresight = Foresight(plant, year) if controller == "perfect_foresight" else None
    optimizer, day_ahead = Optimizer(Limits(PLAN_EVERY_S, threads=1)), DayAhead()

    def step(tables: dict[str, Table], end_s: float) -> None:
        report = tables["home_report"]
        forecast.learn(report, float(devices.pv_kwp.sum()), float(devices.wind_rated_kw.sum()))
        if not memory.add(tables | forecast.tables(end_s) if end_s % QUARTER_S == 0 or not memory.outlook else tables):
            return
        state = memory.state("node", Steps(0, STEPS))
        if state is None:
            return
        if foresight is not None:
            state = foresight.state(state)
        if controller == "day_ahead_lp":
            decision = Decision.of(state, day_ahead.decide(state, policy), reason=Reason("DAY_AHEAD"))
        else:
            decision = optimizer.decide(state, policy)
            optimizer.adopt(decision)
        for wanted in (decision.homes, decision.appliances):
            if wanted is not None:
                plant.homes.apply(wanted, end_s + 2 * CYCLE_S)

    return step


def spot_prices(path: Path | None) -> str:
    """A plain CSV of hourly spot prices [EUR/MWh] for the simulator; empty where there is no source."""
    source = path if path is not None else (PRICES if PRICES.is_file() else None)
    if source is None:
        return ""
    text = lzma.decompress(source.read_bytes()) if source.suffix == ".xz" else source.read_bytes()
    rows = [line.strip().split(",") for line in text.decode().splitlines() if line.strip()]
    column = rows[0].index(ZONE) if ZONE in rows[0] else len(rows[0]) - 1
    values = [row[column] for row in rows[1:]]
    # 1 January 2015 was a Thursday and that of SimBench's 2016 a Friday: a day later, the weekdays agree.
    if source == PRICES:
        values = values[24:] + values[:24]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as made:
        last = "0"
        for value in values:
            last = value or last
            made.write(f"{last}\n")
    return made.name


def options() -> argparse.Namespace:
    """The command line."""
    made = parser("A year of homes in closed loop")
    made.add_argument("--homes", type=int, default=10)
    made.add_argument("--days", type=int, default=365)
    made.add_argument("--start", default="2016-01-01", help="first day, in SimBench's year")
    made.add_argument("--seed", type=int, default=SEED, help="of devices, texture and cars")
    made.add_argument("--prices", type=Path, default=None, help="hourly EUR/MWh in the last column")
    made.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return made.parse_args()


def main() -> None:
    """Run all controllers and write."""
    chosen = options()
    start_s = dt.datetime.fromisoformat(chosen.start).replace(tzinfo=dt.UTC).timestamp()
    year = Year(chosen.homes, chosen.days, start_s, spot_prices(chosen.prices), chosen.seed)
    load_grid(GRID)
    # The long ones first, so that the processes end together.
    order = sorted(CONTROLLERS, key=lambda name: name in ("no_control", "rule_based"))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(chosen.processes, len(order))), mp_context=spawn) as pool:
        results = dict(zip(order, pool.map(run, order, [year] * len(order)), strict=True))
    figures, baseline = summarise(results, year)
    write_result(chosen.json, figures, baseline)


def summarise(results: dict[str, dict[str, Any]], year: Year) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of the app, and beside them those of the other controllers."""
    mean_price = results["no_control"]["cost_eur"] / max(results["no_control"]["import_kwh"], 1e-9)
    shown = {}
    for name, result in results.items():
        shown[name] = {
            "cost_eur": result["cost_eur"] - mean_price * result["gained_kwh"],
            "peak_kw": result["peak_kw"],
            "self_consumption": 1
            - (result["export_kwh"] + _curtailed_kwh(result)) / max(result["generated_kwh"], 1e-9),
            "over_contract_kwh": result["over_connection_kwh"],
            "comfort_degree_h": result["comfort_degree_h"],
            "ev_shortfall_kwh": result["ev_shortfall_kwh"],
            "appliance_late_h": result["appliance_late_h"],
            "co2_kg": result["co2_kg"],
            "wall_s": result["wall_s"],
        }
    ours, perfect, none = (shown[name]["cost_eur"] for name in ("hems_load", "perfect_foresight", "no_control"))
    rule, day_ahead = (shown[name]["cost_eur"] for name in ("rule_based", "day_ahead_lp"))
    figures = shown["hems_load"] | {
        "saving_share_of_perfect_foresight": (none - ours) / (none - perfect),
        "saving_over_rule_share_of_perfect_foresight": (rule - ours) / (rule - perfect),
        "day_ahead_lp_saving_share": (none - day_ahead) / (none - perfect),
        "rule_based_saving_share": (none - rule) / (none - perfect),
        "saving_pct_of_no_control": 100 * (none - ours) / none,
        "homes": float(year.homes),
        "days": float(year.days),
    }
    rest = {f"{name}_{key}": value for name in shown if name != "hems_load" for key, value in shown[name].items()}
    return figures, {"prices": "day-ahead market" if year.spot_file else "seeded", **rest}


def _curtailed_kwh(result: dict[str, Any]) -> float:
    return float(result["pv_curtailed_kwh"] + result["wind_curtailed_kwh"])


if __name__ == "__main__":
    main()
