"""The linear programme of one home over the horizon, kept in HiGHS and solved again from its last basis.

Per step t of `hours`: import and export at the meter, import beyond the contract, PV used, battery, EV and heat pump
powers; battery and EV energy and the indoor temperature at the end of the step; slack below and above the comfort band;
one energy short at the EV's departure. Minimise

    sum_t hours * [ (buy + price) import + over_price over - (sell + price) export
                    + wear (charge + discharge) + ev_wear v2g + discomfort (cold + hot) ]
    + ev_short_price short - battery_value E_T - ev_value Q_T - heat_value T_T + miss_price excess

subject to the balance at the meter, the three storage recursions, the bounds, and import - export - excess <= headroom
where the fleet leaves the home only so much. `price` is the fleet's shadow price of
power. Since sell < buy everywhere (the caller sees to it), import and export never both flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError

__all__ = ["HomeLp", "HomePlan", "HomeProblem"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_METER = ("import", "over", "export", "pv", "excess")
_BIG_KW = 1e4
_BATTERY = ("charge", "discharge", "battery")
_EV = ("ev_charge", "ev_discharge", "ev")
_HEAT = ("heat_pump", "indoor", "cold", "hot")


@dataclass(frozen=True)
class HomeProblem:
    """One home's numbers; arrays (T,). A block that the home lacks (`has_*` False) is ignored."""

    hours: float
    load_kw: Floats
    pv_kw: Floats
    buy: Floats
    sell: Floats
    connection_kw: float
    export_allowed: bool
    has_battery: bool
    has_ev: bool
    has_heat_pump: bool
    battery: tuple[float, float, float, float]
    """Energy now [kWh], capacity [kWh], power limit [kW], one-way efficiency."""
    ev: tuple[float, float, float, float, float]
    """Energy now [kWh], capacity [kWh], charge and discharge limit [kW], one-way efficiency."""
    ev_here: Floats
    """1 while the EV is expected to be plugged in."""
    ev_floor_kwh: Floats
    """Energy below which the EV may not be discharged; at most what it holds now."""
    ev_target_kwh: Floats
    """Energy that the EV is to hold at the end of each step: the target from its departure on; may be missed."""
    heat_pump_kw: float
    indoor_c: float
    left: float
    """Share of a temperature difference that is left after one step."""
    warm_c_per_kw: Floats
    """Rise of the indoor temperature over one step per kW of electrical heat-pump power."""
    drift_c: Floats
    """Indoor temperature that outdoors and gains alone add in one step."""
    low_c: Floats
    high_c: Floats
    prices: tuple[float, float, float, float, float, float]
    """Over contract, wear, V2G wear [EUR/kWh], discomfort [EUR/K h], EV energy short, EV energy held [EUR/kWh]."""
    end_values: tuple[float, float]
    """Value of battery energy [EUR/kWh] and of warmth [EUR/K] at the end of the horizon."""


@dataclass(frozen=True)
class HomePlan:
    """One home's plan; arrays (T,)."""

    net_kw: Floats
    pv_kw: Floats
    battery_kw: Floats
    ev_kw: Floats
    hvac_kw: Floats
    battery_kwh: Floats
    ev_kwh: Floats
    indoor_c: Floats
    discomfort_k_h: float
    ev_short_kwh: float
    over_kwh: float
    cost_eur: float
    """The home's own objective: without the fleet's price and what it pays for excess."""

    def mixed(self, others: list[tuple[float, HomePlan]], share: float) -> HomePlan:
        """`share` of this plan and the given shares of `others`, which sum to 1: feasible too, the set is convex."""
        parts = [(share, self), *others]
        names = self.__dataclass_fields__
        mean: dict[str, Any] = {name: sum(weight * getattr(plan, name) for weight, plan in parts) for name in names}
        return HomePlan(**mean)


class HomeLp:
    """Structure and basis of one home's programme with `steps` steps. Not thread-safe."""

    def __init__(self, steps: int, *, has_battery: bool, has_ev: bool, has_heat_pump: bool) -> None:
        self.steps = steps
        blocks = _METER + has_battery * _BATTERY + has_ev * _EV + has_heat_pump * _HEAT
        self._at = {name: np.arange(steps, dtype=np.int32) + n * steps for n, name in enumerate(blocks)}
        self._columns = len(blocks) * steps + 1
        self._short = self._columns - 1
        self._rows: dict[str, Ints] = {}
        self._has = (has_battery, has_ev, has_heat_pump)
        self._highs = highspy.Highs()
        self._highs.silent()
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("threads", 1)
        self._built = self._limited = False
        self._cost = np.zeros(self._columns)
        self._all = np.arange(self._columns, dtype=np.int32)
        self._warm = np.zeros(0)
        self._problem: HomeProblem | None = None

    @property
    def hours(self) -> float:
        """Length of one step of the problem posed [h]."""
        return 0.0 if self._problem is None else self._problem.hours

    @property
    def flexible(self) -> bool:
        """Whether the problem posed leaves the home any choice but curtailment."""
        problem = self._problem
        if problem is None:
            return False
        return problem.has_battery or problem.has_heat_pump or (problem.has_ev and bool(problem.ev_here.any()))

    def pose(self, problem: HomeProblem) -> None:
        """Put `problem`'s numbers into the programme; the basis of the last solution stays."""
        self._problem = problem
        cost, low, high = self._bounds(problem)
        row_low, row_high = self._sides(problem)
        self._cost = cost
        if not self._built:
            self._build(problem, cost, low, high, row_low, row_high)
            return
        solver = self._highs
        solver.changeColsBounds(self._columns, self._all, low, high)
        solver.changeRowsBounds(row_low.size, np.arange(row_low.size, dtype=np.int32), row_low, row_high)
        self._limited = False
        if problem.has_heat_pump:
            changed = np.flatnonzero(np.abs(self._warm - problem.warm_c_per_kw) > 1e-9)
            for step in changed.tolist():
                row, column = int(self._rows["indoor"][step]), int(self._at["heat_pump"][step])
                solver.changeCoeff(row, column, -float(problem.warm_c_per_kw[step]))
            self._warm = problem.warm_c_per_kw

    def solve(self, price: Floats, headroom_kw: Floats | None = None, miss_price: float = 0.0) -> HomePlan:
        """The plan that is best at the fleet's shadow price (T,) [EUR/kWh].

        With `headroom_kw` (T,), each kWh of net import beyond it costs `miss_price`. Raises TwinRicError SOLVE-FAILED.
        """
        problem = self._problem
        if problem is None:
            raise TwinRicError("SOLVE-FAILED", "home", "(no problem posed)", "a posed problem")
        cost = self._cost.copy()
        cost[self._at["import"]] += problem.hours * price
        cost[self._at["over"]] += problem.hours * price
        cost[self._at["export"]] -= problem.hours * price
        if headroom_kw is not None:
            cost[self._at["excess"]] = problem.hours * miss_price
        self._highs.changeColsCost(self._columns, self._all, cost)
        self._set_headroom(headroom_kw)
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            self._highs.clearSolver()
            self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise TwinRicError("SOLVE-FAILED", "home", self._highs.modelStatusToString(status), "an optimal plan")
        return self._plan(problem, np.array(self._highs.getSolution().col_value))

    def _set_headroom(self, headroom_kw: Floats | None) -> None:
        if headroom_kw is None and not self._limited:
            return
        upper = np.full(self.steps, _BIG_KW) if headroom_kw is None else np.minimum(headroom_kw, _BIG_KW)
        rows, lower = self._rows["headroom"], np.full(self.steps, -highspy.kHighsInf)
        self._highs.changeRowsBounds(self.steps, rows, lower, upper)
        self._limited = headroom_kw is not None

    # The programme --------------------------------------------------------------------------------------------

    def _bounds(self, problem: HomeProblem) -> tuple[Floats, Floats, Floats]:
        cost, low = np.zeros(self._columns), np.zeros(self._columns)
        high = np.full(self._columns, highspy.kHighsInf)
        at, hours = self._at, problem.hours
        over, wear, v2g_wear, discomfort, short, held = problem.prices
        cost[at["import"]], high[at["import"]] = hours * problem.buy, problem.connection_kw
        cost[at["over"]] = hours * (problem.buy + over)
        cost[at["export"]] = -hours * problem.sell
        high[at["export"]] = problem.connection_kw if problem.export_allowed else 0.0
        high[at["pv"]] = problem.pv_kw
        cost[at["excess"]] = 0.0  # priced by `solve` where there is a headroom
        cost[at["pv"]] = -1e-5 * hours  # of two equal plans the one that curtails less
        cost[self._short] = short
        if problem.has_battery:
            _, capacity, limit, _ = problem.battery
            cost[at["charge"]] = cost[at["discharge"]] = hours * wear
            high[at["charge"]] = high[at["discharge"]] = limit
            high[at["battery"]] = capacity
            cost[at["battery"][-1]] = -problem.end_values[0]
        if problem.has_ev:
            _, capacity, charge, discharge, _ = problem.ev
            high[at["ev_charge"]], high[at["ev_discharge"]] = charge * problem.ev_here, discharge * problem.ev_here
            cost[at["ev_discharge"]] = hours * v2g_wear
            cost[at["ev_charge"]] = 1e-5 * hours
            low[at["ev"]], high[at["ev"]] = problem.ev_floor_kwh, capacity
            cost[at["ev"][-1]] = -held
        if problem.has_heat_pump:
            high[at["heat_pump"]] = problem.heat_pump_kw
            low[at["indoor"]] = -highspy.kHighsInf
            cost[at["cold"]] = cost[at["hot"]] = hours * discomfort
            cost[at["indoor"][-1]] = -problem.end_values[1]
        return cost, low, high

    def _sides(self, problem: HomeProblem) -> tuple[Floats, Floats]:
        infinite = np.full(self.steps, highspy.kHighsInf)
        low = [problem.load_kw, -infinite]
        high = [problem.load_kw, np.full(self.steps, _BIG_KW)]
        for present, start in ((problem.has_battery, problem.battery[0]), (problem.has_ev, problem.ev[0])):
            if present:
                side = np.zeros(self.steps)
                side[0] = start
                low.append(side)
                high.append(side)
        if problem.has_ev:
            low.append(problem.ev_target_kwh)
            high.append(infinite)
        if problem.has_heat_pump:
            side = problem.drift_c.copy()
            side[0] += problem.left * problem.indoor_c
            low += [side, problem.low_c, -infinite]
            high += [side, infinite, problem.high_c]
        return np.concatenate(low), np.concatenate(high)

    def _triplets(self, problem: HomeProblem) -> list[tuple[Ints, Ints, Floats]]:
        """(row, column, value) of all coefficients; names the rows in `self._rows`."""
        at, steps, hours = self._at, self.steps, problem.hours
        first = 0
        result: list[tuple[Ints, Ints, Floats]] = []

        def rows(name: str) -> Ints:
            nonlocal first
            self._rows[name] = np.arange(first, first + steps, dtype=np.int32)
            first += steps
            return self._rows[name]

        def put(row: Ints, column: Ints, value: float | Floats) -> None:
            result.append((row, column, np.broadcast_to(np.asarray(value, dtype=float), row.shape)))

        balance = rows("balance")
        signs = {"import": 1, "over": 1, "export": -1, "pv": 1, "charge": -1, "discharge": 1, "ev_charge": -1,
                 "ev_discharge": 1, "heat_pump": -1}  # fmt: skip
        for name, sign in signs.items():
            if name in at:
                put(balance, at[name], float(sign))
        headroom = rows("headroom")
        for name, sign in (("import", 1), ("over", 1), ("export", -1), ("excess", -1)):
            put(headroom, at[name], float(sign))
        stores = [("battery", "charge", "discharge", problem.battery[3])] * problem.has_battery
        stores += [("ev", "ev_charge", "ev_discharge", problem.ev[4])] * problem.has_ev
        for energy, charge, discharge, efficiency in stores:
            row = rows(energy)
            put(row, at[energy], 1.0)
            put(row[1:], at[energy][:-1], -1.0)
            put(row, at[charge], -hours * efficiency)
            put(row, at[discharge], hours / efficiency)
        if problem.has_ev:
            row = rows("target")
            put(row, at["ev"], 1.0)
            put(row, np.full(steps, self._short, dtype=np.int32), 1.0)
        if problem.has_heat_pump:
            row = rows("indoor")
            put(row, at["indoor"], 1.0)
            put(row[1:], at["indoor"][:-1], -problem.left)
            put(row, at["heat_pump"], -problem.warm_c_per_kw)
            for name, slack, side in (("low", "cold", 1.0), ("high", "hot", -1.0)):
                row = rows(name)
                put(row, at["indoor"], 1.0)
                put(row, at[slack], side)
        return result

    def _build(
        self, problem: HomeProblem, cost: Floats, low: Floats, high: Floats, row_low: Floats, row_high: Floats
    ) -> None:
        parts = self._triplets(problem)
        row, column = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
        value = np.concatenate([part[2] for part in parts])
        order = np.lexsort((row, column))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self._columns, row_low.size
        model.col_cost_, model.col_lower_, model.col_upper_ = cost, low, high
        model.row_lower_, model.row_upper_ = row_low, row_high
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.num_col_, matrix.num_row_ = self._columns, row_low.size
        matrix.start_ = np.searchsorted(column[order], np.arange(self._columns + 1)).astype(np.int32)
        matrix.index_, matrix.value_ = row[order], value[order]
        self._highs.passModel(model)
        self._warm, self._built = problem.warm_c_per_kw, True

    def _plan(self, problem: HomeProblem, x: Floats) -> HomePlan:
        at, none = self._at, np.zeros(self.steps)

        def values(name: str) -> Floats:
            return x[at[name]] if name in at else none

        slack = float((values("cold") + values("hot")).sum()) * problem.hours
        return HomePlan(
            net_kw=values("import") + values("over") - values("export"),
            pv_kw=values("pv"),
            battery_kw=values("charge") - values("discharge"),
            ev_kw=values("ev_charge") - values("ev_discharge"),
            hvac_kw=values("heat_pump"),
            battery_kwh=values("battery"),
            ev_kwh=values("ev"),
            indoor_c=values("indoor"),
            discomfort_k_h=slack,
            ev_short_kwh=float(x[self._short]),
            over_kwh=float(values("over").sum()) * problem.hours,
            cost_eur=float(self._cost @ x),
        )
