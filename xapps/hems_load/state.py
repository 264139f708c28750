"""What the HEMS knows of one node at one instant, and the memory that it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ric.columns import STALE, Table
from ric.errors import TwinRicError
from xapps.hems_load.model import Homes, Jobs, cop_at, heat_loss_factor

__all__ = ["STEP_S", "Horizon", "NodeMemory", "State", "check_series", "resample"]

Floats = NDArray[np.float64]

STEP_S = 900
REPORT_PERIOD_S = 60.0
"""Taken to be the time between two reports until there were two [s]."""
QUARTERS = 96
NS = 1_000_000_000
_DAY_S = 86_400
FORECAST_VALID_S = 6 * 3600
_USED = 0.4
_GAIN_LIMITS_KW = (-1.0, 4.0)


@dataclass(frozen=True)
class Horizon:
    """Expected inputs of the next steps of STEP_S, from the state's source time on."""

    load_kw: Floats
    """(N, T) uncontrollable load."""
    pv_kw: Floats
    """(N, T) available PV power."""
    wind_kw: Floats
    """(N, T) available wind power."""
    occupied: Floats
    """(N, T) 1 where somebody may be at home."""
    outdoor_c: Floats
    """(T,)."""
    buy: Floats
    """(N, T) import price of each home's tariff [EUR/kWh]."""
    sell: Floats
    """(N, T) export price [EUR/kWh]."""
    carbon_g_per_kwh: Floats
    """(T,) CO2 intensity of imports; 0 where it is not known."""


@dataclass(frozen=True)
class State:
    """One node: its homes, their newest report, the horizon, the community storage and its schedule."""

    node: str
    source_time_ns: int
    homes: Homes
    report: Mapping[str, Floats]
    """Columns (N,) of `home_report`."""
    jobs: Jobs
    prices_now: tuple[Floats, Floats]
    """(N,) import and export price of each home's tariff [EUR/kWh]."""
    expect: Callable[[], Horizon]
    """Makes the horizon; only a plan needs one."""
    gains_kw: Floats
    """(N,) heat that people, appliances and the sun add, as the last hour showed [kW]."""
    storage: Table | None
    schedule: Table | None
    stale: NDArray[np.bool_]
    """(N,) homes of whose report a value is marked stale."""
    forecast_ns: int
    """Source time of the demand forecast in use; 0 when yesterday stands in for it."""
    report_period_s: float = REPORT_PERIOD_S
    """Time between the last two reports, and so about the time until the next decision [s]."""

    @property
    def time_s(self) -> float:
        """Source time [s]."""
        return self.source_time_ns / NS

    @cached_property
    def horizon(self) -> Horizon:
        """Expected inputs of the next steps."""
        return self.expect()


def resample(values: Floats, start_ns: int, step_s: float, now_ns: int, steps: int) -> Floats:
    """Means over `steps` steps of `step_s` from `now_ns` on, of a step-wise series (..., K) that begins at `start_ns`.

    Beyond its ends the series is held.
    """
    offset = (now_ns - start_ns) / (step_s * NS)
    whole = int(np.floor(offset))
    share = offset - whole
    last = values.shape[-1] - 1
    first = np.clip(whole + np.arange(steps), 0, last)
    second = np.clip(first + 1, 0, last)
    return np.asarray((1 - share) * values[..., first] + share * values[..., second])


def check_series(table: Table, names: tuple[str, ...], code: str) -> None:
    """Raises TwinRicError `code` unless the series of `table` have entities, values and a step of STEP_S."""
    if not table.ids:
        raise TwinRicError(code, f"{table.kind}.ids", 0, "at least one entity")
    steps = table["step_s"]
    if np.any(steps != STEP_S):
        raise TwinRicError(code, f"{table.kind}.step_s", float(steps[steps != STEP_S][0]), f"{STEP_S} s")
    for name in names:
        if table[name].ndim != 2 or table[name].shape[1] < 1:
            raise TwinRicError(code, f"{table.kind}.{name}", "(no values)", "at least one value per entity")


@dataclass
class NodeMemory:
    """Newest tables of one node, and the last day in quarters of an hour: what is expected without a forecast."""

    homes: Homes | None = None
    report: Table | None = None
    jobs: Jobs = field(default_factory=Jobs)
    outlook: Table | None = None
    tariffs: Table | None = None
    feeder: Table | None = None
    storage: Table | None = None
    schedule: Table | None = None
    forecast: Table | None = None
    load_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    pv_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    wind_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    here_by_quarter: Floats = field(default_factory=lambda: np.ones((2, 0, QUARTERS)))
    recent_load: Floats = field(default_factory=lambda: np.zeros(0))
    gains_kw: Floats = field(default_factory=lambda: np.zeros(0))
    report_period_s: float = REPORT_PERIOD_S

    def add(self, tables: Mapping[str, Table]) -> bool:
        """Take one indication; True when it carried a home report that is newer than the last."""
        if "tariffs" in tables:
            check_series(tables["tariffs"], ("buy_eur_per_kwh", "sell_eur_per_kwh"), "E2-RANGE")
            self.tariffs = tables["tariffs"]
        if "outlook" in tables:
            names = ("buy_eur_per_kwh", "sell_eur_per_kwh", "outdoor_c", "pv_kw_per_kwp")
            check_series(tables["outlook"], names, "E2-RANGE")
        if "home_static" in tables:
            self._take_static(tables["home_static"])
        for name in ("outlook", "feeder", "storage"):
            kind = name if name == "outlook" else f"{name}_report"
            if kind in tables and tables[kind].ids:
                setattr(self, name, tables[kind])
        report = tables.get("home_report")
        if report is None or self.homes is None or not report.ids:
            return False
        if report.ids != self.homes.ids:
            raise TwinRicError("E2-RANGE", "home_report.ids", len(report.ids), "the homes of home_static, in order")
        if self.report is not None and report.source_time_ns <= self.report.source_time_ns:
            return False
        jobs = Jobs.of(tables["appliance_report"]) if "appliance_report" in tables else Jobs()
        if len(jobs) and not 0 <= jobs.home.max() < len(report.ids):
            raise TwinRicError("E2-RANGE", "appliance_report.home", int(jobs.home.max()), f"0..{len(report.ids) - 1}")
        self._learn(report, self.homes)
        self.report, self.jobs = report, jobs
        return True

    def _take_static(self, table: Table) -> None:
        if self.homes is not None and self.homes.ids == table.ids:
            self.homes = Homes.of(table)
            return
        self.homes, number = Homes.of(table), len(table.ids)
        self.report, self.report_period_s = None, REPORT_PERIOD_S
        self.load_by_quarter = np.full((number, QUARTERS), np.nan)
        self.pv_by_quarter = np.full((number, QUARTERS), np.nan)
        self.wind_by_quarter = np.full((number, QUARTERS), np.nan)
        self.here_by_quarter = np.ones((2, number, QUARTERS))
        self.recent_load = np.full(number, np.nan)
        self.gains_kw = np.full(number, 0.3)

    def _learn(self, report: Table, homes: Homes) -> None:
        quarter, weekend = _quarter_of(report.source_time_ns - NS)
        if self.report is not None:
            self.report_period_s = min((report.source_time_ns - self.report.source_time_ns) / NS, float(STEP_S))
        step_s = self.report_period_s
        # A whole quarter of an hour replaces 95 % of what the same quarter showed last, 70 % of whether it was used.
        new, new_here = 1 - np.exp(-3 * step_s / STEP_S), 1 - np.exp(-1.2 * step_s / STEP_S)
        for memory, name in (
            (self.load_by_quarter, "inflexible_kw"), (self.pv_by_quarter, "pv_available_kw"),
            (self.wind_by_quarter, "wind_available_kw"),
        ):  # fmt: skip
            old = memory[:, quarter]
            memory[:, quarter] = np.where(np.isnan(old), report[name], old + new * (report[name] - old))
        here = self.here_by_quarter[weekend, :, quarter]
        self.here_by_quarter[weekend, :, quarter] = here + new_here * (report["occupied"] - here)
        self.recent_load = np.where(
            np.isnan(self.recent_load), report["inflexible_kw"],
            self.recent_load + 0.15 * (report["inflexible_kw"] - self.recent_load),
        )  # fmt: skip
        if self.report is not None and step_s < STEP_S:
            seen = _gains(homes, self.report, report, step_s)
            self.gains_kw = self.gains_kw + step_s / 3600 * (seen - self.gains_kw)

    def state(self, node: str, steps: int) -> State | None:
        """The state to decide on; None before the first report and while no price is known."""
        if self.homes is None or self.report is None or (self.outlook is None and self.feeder is None):
            return None
        now_ns = self.report.source_time_ns
        report = {name: np.asarray(values, dtype=float) for name, values in self.report.columns.items()}
        forecast = None if self.forecast is None else _of_homes(self.forecast, self.homes.ids)
        if forecast is not None and now_ns > forecast.source_time_ns + FORECAST_VALID_S * NS:
            forecast = None
        seen = copy(self)  # what it refers to now; the memory goes on
        buy, sell = self._prices(self.homes, now_ns, 1)
        return State(
            node=node,
            source_time_ns=now_ns,
            homes=self.homes,
            report=report,
            jobs=self.jobs,
            prices_now=(buy[:, 0], sell[:, 0]),
            expect=lambda: seen._horizon(steps, forecast),
            gains_kw=self.gains_kw,
            storage=self.storage,
            schedule=self.schedule,
            stale=_stale(self.report),
            forecast_ns=0 if forecast is None else forecast.source_time_ns,
            report_period_s=self.report_period_s,
        )

    def _horizon(self, steps: int, forecast: Table | None) -> Horizon:
        homes, report = self.homes, self.report
        if homes is None or report is None:  # unreachable: a state has both
            raise TwinRicError("E2-RANGE", "home_report", "(none)", "a report before a plan")
        now_ns = report.source_time_ns
        lead = np.arange(steps)
        load = self._yesterday(self.load_by_quarter, report["inflexible_kw"], now_ns, steps)
        if forecast is not None:
            load = resample(forecast["load_p50_kw"], forecast.source_time_ns, STEP_S, now_ns, steps)
        # What was seen in the last minutes holds on for a while.
        load = np.maximum(load + 0.5 * np.outer(self.recent_load - load[:, 0], np.exp(-lead / 2)), 0)
        weather = self._weather(now_ns, steps, report)
        pv = self._renewable(
            homes.pv_kwp,
            "pv_available_kw",
            weather.get("pv_kw_per_kwp"),
            self.pv_by_quarter,
            now_ns=now_ns,
            steps=steps,
        )
        wind = self._renewable(
            homes.wind_rated_kw, "wind_available_kw", weather.get("wind_kw_per_kw"), self.wind_by_quarter,
            now_ns=now_ns, steps=steps,
        )  # fmt: skip
        buy, sell = self._prices(homes, now_ns, steps)
        occupied = self._occupied(report["occupied"], now_ns, steps)
        carbon = weather.get("carbon_g_per_kwh", np.zeros(steps))
        return Horizon(load, pv, wind, occupied, weather["outdoor_c"], buy, sell, carbon)

    def _renewable(
        self, rated_kw: Floats, name: str, per_kw: Floats | None, memory: Floats, *, now_ns: int, steps: int
    ) -> Floats:
        """(N, T) available power: the outlook's, scaled by what is seen now fading out over hours, or yesterday's."""
        now = np.zeros(rated_kw.size) if self.report is None else self.report[name]
        if per_kw is None:
            expected = self._yesterday(memory, now, now_ns, steps)
        else:
            here = rated_kw * max(float(per_kw[0]), 1e-9)
            ratio = np.clip(np.divide(now, here, out=np.ones(rated_kw.size), where=here > 0.05), 0.3, 2)
            factor = 1 + np.outer(ratio - 1, np.exp(-np.arange(per_kw.size) / 8))
            expected = rated_kw[:, None] * per_kw[None, :] * factor
        return np.where(rated_kw[:, None] > 0, np.maximum(expected, 0), 0.0)

    def _prices(self, homes: Homes, now_ns: int, steps: int) -> tuple[Floats, Floats]:
        """(N, T) import and export price; the node's tariff for homes whose own is not known, the feeder's at last."""
        names, table = ("buy_eur_per_kwh", "sell_eur_per_kwh"), self.tariffs or self.outlook
        if table is None:
            now = (0.0, 0.0) if self.feeder is None else (self.feeder["buy_price"][0], self.feeder["sell_price"][0])
            return np.full((len(homes), steps), float(now[0])), np.full((len(homes), steps), float(now[1]))
        of = homes.tariff.astype(np.intp)
        row = np.where((of >= 0) & (of < len(table)), of, 0)
        step_s, start_ns = float(table["step_s"][0]), table.source_time_ns
        buy, sell = (resample(table[name], start_ns, step_s, now_ns, steps)[row] for name in names)
        return buy, sell

    def _weather(self, now_ns: int, steps: int, report: Table) -> dict[str, Floats]:
        """(T,) of what the outlook says of temperature, PV, wind and CO2; without one only the temperature of now."""
        outlook, outdoor_now = self.outlook, float(report["outdoor_c"].mean())
        if outlook is None:
            return {"outdoor_c": np.full(steps, outdoor_now)}
        step_s, start_ns = float(outlook["step_s"][0]), outlook.source_time_ns
        names = ("outdoor_c", "pv_kw_per_kwp", "wind_kw_per_kw", "carbon_g_per_kwh")
        found = {
            name: resample(outlook[name][0], start_ns, step_s, now_ns, steps)
            for name in names
            if name in outlook.columns
        }
        # The forecast's error shows already: what is measured now fades into it over some hours.
        found["outdoor_c"] += (outdoor_now - found["outdoor_c"][0]) * np.exp(-np.arange(steps) / 16)
        return found

    def _yesterday(self, memory: Floats, now: Floats, now_ns: int, steps: int) -> Floats:
        quarter, _ = _quarter_of(now_ns)
        seen = np.take(memory, (quarter + np.arange(steps)) % QUARTERS, axis=1)
        return np.where(np.isnan(seen), now[:, None], seen)

    def _occupied(self, now: Floats, now_ns: int, steps: int) -> Floats:
        """1 where the home was used within half an hour of that time on the last days of that sort (workday or
        weekend), and for the next half hour where it is used now: doubt counts as somebody at home.
        """
        quarter, weekend = _quarters_of(now_ns + STEP_S * NS * np.arange(steps))
        used = np.max([np.roll(self.here_by_quarter, -shift, axis=2) for shift in (-2, -1, 0, 1, 2)], axis=0) > _USED
        result = used[weekend, :, quarter].T.astype(float)
        result[:, :2] = np.maximum(result[:, :2], now[:, None])
        return np.asarray(result)


def _quarters_of(times_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Quarter of an hour in the day, and 1 at a weekend, of each instant; the epoch began on a Thursday."""
    quarter, day = times_ns // NS % _DAY_S // STEP_S, times_ns // NS // _DAY_S
    return np.asarray(quarter, dtype=np.int64), np.asarray((day + 3) % 7 >= 5, dtype=np.int64)


def _quarter_of(time_ns: int) -> tuple[int, int]:
    quarter, weekend = _quarters_of(np.array([time_ns], dtype=np.int64))
    return int(quarter[0]), int(weekend[0])


def _of_homes(forecast: Table, ids: tuple[str, ...]) -> Table | None:
    """The forecast's rows of the homes, in their order; it may hold more, such as the feeder. None where one lacks."""
    if forecast.ids == ids:
        return forecast
    if not set(ids) <= set(forecast.ids):
        return None
    rows = forecast.rows(ids)
    return replace(forecast, ids=ids, columns={name: values[rows] for name, values in forecast.columns.items()})


def _stale(report: Table) -> NDArray[np.bool_]:
    marks = [quality == STALE for quality in report.quality.values()]
    return np.logical_or.reduce(marks) if marks else np.zeros(len(report), dtype=bool)


def _gains(homes: Homes, before: Table, after: Table, step_s: float) -> Floats:
    """(N,) heat that explains the change of the indoor temperatures beside the heat pumps, bounded [kW]."""
    left = heat_loss_factor(homes, step_s)
    outdoor = float(after["outdoor_c"].mean())
    settled = (after["indoor_c"] - before["indoor_c"] * left) / (1 - left)
    heat = homes.heat_loss_kw_per_k * (settled - outdoor)
    return np.clip(heat - cop_at(homes, np.array([outdoor]))[:, 0] * after["hvac_kw"], *_GAIN_LIMITS_KW)
