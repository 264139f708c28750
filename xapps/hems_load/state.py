"""What the HEMS knows of one node at one instant, and the memory that it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ric.columns import STALE, Table
from ric.errors import TwinRicError
from xapps.hems_load.horizon import MINUTE_S, NS, STEP_S, Horizon, Steps, resample
from xapps.hems_load.model import Homes, Jobs, cop_at, heat_loss_factor

__all__ = ["NodeMemory", "State", "check_series"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPORT_PERIOD_S = 60.0
"""Taken to be the time between two reports until there were two [s]."""
QUARTERS = 96
_DAY_S = 86_400
FORECAST_VALID_S = 6 * 3600
RECENT_S = 370.0
"""How far back what a home used lately reaches [s]."""
_USED = 0.4
HOLDS, HOLDS_S = 0.5, 1800.0
"""Share of the last minutes' difference from the forecast that holds on [1], and for how long [s]."""
NOW_HOLDS_S = 120.0
"""How long the newest minute's difference from the minutes before it holds on [s]."""
_GAIN_LIMITS_KW = (-1.0, 4.0)


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
    steps: Steps
    """The steps that a plan has."""
    report_period_s: float = REPORT_PERIOD_S
    """Time between the last two reports, and so about the time until the next decision [s]."""
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """(N,) homes of each group that is known here."""

    @property
    def time_s(self) -> float:
        """Source time [s]."""
        return self.source_time_ns / NS

    @cached_property
    def edges_h(self) -> Floats:
        """(T + 1,) where the steps of a plan made now begin and end [h from now]."""
        return self.steps.edges_h(self.source_time_ns)

    @cached_property
    def horizon(self) -> Horizon:
        """Expected inputs of the next steps."""
        return self.expect()


def check_series(table: Table, names: tuple[str, ...], code: str, step_s: int = STEP_S) -> None:
    """Raises TwinRicError `code` unless the series of `table` have entities, values and a step of `step_s`."""
    if not table.ids:
        raise TwinRicError(code, f"{table.kind}.ids", 0, "at least one entity")
    steps = table["step_s"]
    if np.any(steps != step_s):
        raise TwinRicError(code, f"{table.kind}.step_s", float(steps[steps != step_s][0]), f"{step_s} s")
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
    minutes: Table | None = None
    """The demand forecast of the next minutes."""
    load_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    pv_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    wind_by_quarter: Floats = field(default_factory=lambda: np.zeros((0, QUARTERS)))
    here_by_quarter: Floats = field(default_factory=lambda: np.ones((2, 0, QUARTERS)))
    recent_load: Floats = field(default_factory=lambda: np.zeros(0))
    gains_kw: Floats = field(default_factory=lambda: np.zeros(0))
    report_period_s: float = REPORT_PERIOD_S
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of the ids of the homes of each group."""
    groups: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """(N,) homes of each group that has any here."""

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
        found = {
            name: np.array([any(fnmatchcase(home, own) for own in patterns) for home in table.ids], dtype=bool)
            for name, patterns in self.members.items()
        }
        self.groups = {name: rows for name, rows in found.items() if rows.any()}
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
            self.recent_load + (1 - np.exp(-step_s / RECENT_S)) * (report["inflexible_kw"] - self.recent_load),
        )  # fmt: skip
        if self.report is not None and step_s < STEP_S:
            seen = _gains(homes, self.report, report, step_s)
            self.gains_kw = self.gains_kw + step_s / 3600 * (seen - self.gains_kw)

    def state(self, node: str, steps: Steps) -> State | None:
        """The state to decide on; None before the first report and while no price is known."""
        if self.homes is None or self.report is None or (self.outlook is None and self.feeder is None):
            return None
        now_ns = self.report.source_time_ns
        report = {name: np.asarray(values, dtype=float) for name, values in self.report.columns.items()}
        forecast = self._fresh(self.forecast)
        edges_ns, minutes = steps.edges_ns(now_ns), self._fresh(self.minutes)
        seen = copy(self)  # what it refers to now; the memory goes on
        buy, sell = self._prices(self.homes, np.array([now_ns, now_ns + MINUTE_S * NS]))
        return State(
            node=node,
            source_time_ns=now_ns,
            homes=self.homes,
            report=report,
            jobs=self.jobs,
            prices_now=(buy[:, 0], sell[:, 0]),
            expect=lambda: seen._horizon(edges_ns, forecast, minutes),
            gains_kw=self.gains_kw,
            storage=self.storage,
            schedule=self.schedule,
            stale=_stale(self.report),
            forecast_ns=0 if forecast is None else forecast.source_time_ns,
            steps=steps,
            report_period_s=self.report_period_s,
            groups=self.groups,
        )

    def _fresh(self, forecast: Table | None) -> Table | None:
        """The forecast of the homes; None where it is old or lacks one."""
        if forecast is None or self.homes is None or self.report is None:
            return None
        old = self.report.source_time_ns > forecast.source_time_ns + FORECAST_VALID_S * NS
        return None if old else _of_homes(forecast, self.homes.ids)

    def _horizon(self, edges_ns: Ints, forecast: Table | None, minutes: Table | None) -> Horizon:
        homes, report = self.homes, self.report
        if homes is None or report is None:  # unreachable: a state has both
            raise TwinRicError("E2-RANGE", "home_report", "(none)", "a report before a plan")
        weather = self._weather(edges_ns, report)
        pv = self._renewable(
            homes.pv_kwp, "pv_available_kw", weather.get("pv_kw_per_kwp"), self.pv_by_quarter, edges_ns=edges_ns
        )
        wind = self._renewable(
            homes.wind_rated_kw, "wind_available_kw", weather.get("wind_kw_per_kw"), self.wind_by_quarter,
            edges_ns=edges_ns,
        )  # fmt: skip
        buy, sell = self._prices(homes, edges_ns)
        occupied = self._occupied(report["occupied"], edges_ns)
        carbon = weather.get("carbon_g_per_kwh", np.zeros(edges_ns.size - 1))
        load = self._load(edges_ns, report["inflexible_kw"], forecast, minutes)
        return Horizon(load, pv, wind, occupied, weather["outdoor_c"], buy, sell, carbon)

    def _load(self, edges_ns: Ints, now_kw: Floats, forecast: Table | None, minutes: Table | None) -> Floats:
        """(N, T) load: the forecasts', or yesterday's; what was seen in the last minutes holds on for a while."""
        if forecast is None:
            load = self._yesterday(self.load_by_quarter, now_kw, edges_ns)
        else:
            load = resample(forecast["load_p50_kw"], forecast.source_time_ns, STEP_S, edges_ns)
        if minutes is not None:
            series = minutes["load_p50_kw"]
            known = (
                int(np.searchsorted(edges_ns, minutes.source_time_ns + MINUTE_S * NS * series.shape[1], "right")) - 1
            )
            if known > 0:
                load[:, :known] = resample(series, minutes.source_time_ns, MINUTE_S, edges_ns[: known + 1])
        lately = HOLDS * np.outer(self.recent_load - load[:, 0], _fading(edges_ns, HOLDS_S))
        now = np.outer(now_kw - self.recent_load, _fading(edges_ns, NOW_HOLDS_S))
        return np.maximum(load + lately + now, 0)

    def _renewable(
        self, rated_kw: Floats, name: str, per_kw: Floats | None, memory: Floats, *, edges_ns: Ints
    ) -> Floats:
        """(N, T) available power: the outlook's, scaled by what is seen now fading out over hours, or yesterday's."""
        now = np.zeros(rated_kw.size) if self.report is None else self.report[name]
        if per_kw is None:
            expected = self._yesterday(memory, now, edges_ns)
        else:
            here = rated_kw * max(float(per_kw[0]), 1e-9)
            ratio = np.clip(np.divide(now, here, out=np.ones(rated_kw.size), where=here > 0.05), 0.3, 2)
            expected = rated_kw[:, None] * per_kw[None, :] * (1 + np.outer(ratio - 1, _fading(edges_ns, 2 * 3600)))
        return np.where(rated_kw[:, None] > 0, np.maximum(expected, 0), 0.0)

    def _prices(self, homes: Homes, edges_ns: Ints) -> tuple[Floats, Floats]:
        """(N, T) import and export price; the node's tariff for homes whose own is not known, the feeder's at last."""
        names, table, shape = ("buy_eur_per_kwh", "sell_eur_per_kwh"), self.tariffs or self.outlook, edges_ns.size - 1
        if table is None:
            now = (0.0, 0.0) if self.feeder is None else (self.feeder["buy_price"][0], self.feeder["sell_price"][0])
            return np.full((len(homes), shape), float(now[0])), np.full((len(homes), shape), float(now[1]))
        of = homes.tariff.astype(np.intp)
        row = np.where((of >= 0) & (of < len(table)), of, 0)
        step_s, start_ns = float(table["step_s"][0]), table.source_time_ns
        buy, sell = (resample(table[name], start_ns, step_s, edges_ns)[row] for name in names)
        return buy, sell

    def _weather(self, edges_ns: Ints, report: Table) -> dict[str, Floats]:
        """(T,) of what the outlook says of temperature, PV, wind and CO2; without one only the temperature of now."""
        outlook, outdoor_now = self.outlook, float(report["outdoor_c"].mean())
        if outlook is None:
            return {"outdoor_c": np.full(edges_ns.size - 1, outdoor_now)}
        step_s, start_ns = float(outlook["step_s"][0]), outlook.source_time_ns
        names = ("outdoor_c", "pv_kw_per_kwp", "wind_kw_per_kw", "carbon_g_per_kwh")
        found = {
            name: resample(outlook[name][0], start_ns, step_s, edges_ns) for name in names if name in outlook.columns
        }
        # The forecast's error shows already: what is measured now fades into it over some hours.
        found["outdoor_c"] += (outdoor_now - found["outdoor_c"][0]) * _fading(edges_ns, 4 * 3600)
        return found

    def _yesterday(self, memory: Floats, now: Floats, edges_ns: Ints) -> Floats:
        seen = np.take(memory, _quarters_of(edges_ns[:-1])[0], axis=1)
        return np.where(np.isnan(seen), now[:, None], seen)

    def _occupied(self, now: Floats, edges_ns: Ints) -> Floats:
        """1 where the home was used within half an hour of that time on the last days of that sort (workday or
        weekend), and for the next half hour where it is used now: doubt counts as somebody at home.
        """
        quarter, weekend = _quarters_of(edges_ns[:-1])
        used = np.max([np.roll(self.here_by_quarter, -shift, axis=2) for shift in (-2, -1, 0, 1, 2)], axis=0) > _USED
        result = used[weekend, :, quarter].T.astype(float)
        soon = edges_ns[:-1] < edges_ns[0] + 1800 * NS
        result[:, soon] = np.maximum(result[:, soon], now[:, None])
        return np.asarray(result)


def _fading(edges_ns: Ints, over_s: float) -> Floats:
    """(T,) what is left in each step, on average, of a departure from the forecast that is there now [1]."""
    at = (edges_ns - edges_ns[0]) / (over_s * NS)
    return np.asarray(-np.diff(np.exp(-at)) / np.diff(at))


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
