"""One home's plan as an exact programme in HiGHS: the oracle and the baseline of the fleet solver.

Written from `FleetProblem` alone, apart from the solver's own form. The strongest baseline we know: matrices handed
over directly, one model kept per home, solved again from its last basis after its numbers changed. With `runs=True` the
starts of shiftable runs are binaries.
"""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetProblem

__all__ = ["HomeProgramme", "joint_cost"]

Floats = NDArray[np.float64]
INF = highspy.kHighsInf
LEAST_PRICE_GAP = 1e-4


class HomeProgramme:
    """Home `home` of problems that all have its devices; `pose`, then `solve`."""

    def __init__(self, problem: FleetProblem, home: int, *, runs: bool = False) -> None:
        self._home, self._runs, self._steps = home, runs, problem.steps
        self._columns: list[tuple[Floats, Floats, Floats, bool]] = []
        self._rows: list[tuple[Floats, Floats]] = []
        self._entries: list[tuple[Any, Any, Any]] = []
        self._at: dict[str, NDArray[np.int32]] = {}
        self._highs = highspy.Highs()
        self._highs.silent()
        self._highs.setOptionValue("threads", 1)
        self._built: Floats | None = None

    def pose(self, problem: FleetProblem, load_kw: Floats) -> None:
        """The numbers of `problem`, with `load_kw` (T,) as the load without a decision; the basis stays."""
        columns, rows, entries = self._matrices(problem, load_kw)
        cost, low, high = columns
        row_low, row_high = rows
        row, column, value = entries
        if self._built is None:
            self._build(columns, rows, entries)
            return
        every = np.arange(cost.size, dtype=np.int32)
        self._highs.changeColsCost(cost.size, every, cost)
        self._highs.changeColsBounds(cost.size, every, low, high)
        self._highs.changeRowsBounds(row_low.size, np.arange(row_low.size, dtype=np.int32), row_low, row_high)
        for n in np.flatnonzero(np.abs(self._built - value) > 1e-12).tolist():
            self._highs.changeCoeff(int(row[n]), int(column[n]), float(value[n]))
        self._built = value

    def _matrices(self, problem: FleetProblem, load_kw: Floats) -> tuple[Any, Any, Any]:
        """Columns (cost, low, high), rows (low, high) and entries (row, column, value)."""
        self._columns, self._rows, self._entries, self._at = [], [], [], {}
        self._meter(problem, load_kw)
        self._battery(problem)
        self._ev(problem)
        self._heat_pump(problem)
        self._appliances(problem)
        if self._runs:
            self._shiftable(problem)
        columns = tuple(np.concatenate([part[n] for part in self._columns]) for n in range(3))
        rows = tuple(np.concatenate([part[n] for part in self._rows]) for n in range(2))
        spread = [[np.broadcast_to(part, entry[1].shape) for part in entry] for entry in self._entries]
        return columns, rows, tuple(np.concatenate([entry[n] for entry in spread]) for n in range(3))

    def solve(self, *, warm: bool) -> float:
        """The least objective [EUR]; from the last basis, or from none with presolve."""
        self._highs.setOptionValue("presolve", "off" if warm else "on")
        if not warm:
            self._highs.clearSolver()
        self._highs.run()
        if warm and self._highs.getModelStatus() == highspy.HighsModelStatus.kUnknown:
            return self.solve(warm=False)  # rarely a basis leaves it undecided
        assert self._highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return float(self._highs.getInfo().objective_function_value)

    def net_kw(self) -> Floats:
        """(T,) net import of the last solution."""
        x = np.array(self._highs.getSolution().col_value)
        return np.asarray(x[self._at["import"]] + x[self._at["over"]] - x[self._at["export"]])

    # The programme --------------------------------------------------------------------------------------------

    def _column(self, name: str, cost: Any, high: Any, low: Any = 0.0, size: int = 0, integer: bool = False) -> Any:
        size = size or self._steps
        first = sum(part[0].size for part in self._columns)
        filled = [np.array(np.broadcast_to(np.asarray(part, dtype=float), size)) for part in (cost, low, high)]
        self._columns.append((*filled, integer))  # type: ignore[arg-type]
        self._at[name] = np.arange(first, first + size, dtype=np.int32)
        return self._at[name]

    def _row(self, low: Any, high: Any, size: int) -> Any:
        first = sum(part[0].size for part in self._rows)
        self._rows.append(tuple(np.array(np.broadcast_to(np.asarray(p, dtype=float), size)) for p in (low, high)))  # type: ignore[arg-type]
        return np.arange(first, first + size, dtype=np.int32)

    def _put(self, row: Any, column: Any, value: Any) -> None:
        column = np.atleast_1d(column)
        self._entries.append((row, column, np.broadcast_to(np.asarray(value, dtype=float), column.shape)))

    def _meter(self, problem: FleetProblem, load_kw: Floats) -> None:
        h, hours, meter = self._home, problem.hours, problem.meter
        price = 0.0 if problem.fleet_price is None else np.broadcast_to(problem.fleet_price, meter.buy.shape)[h]
        buy = meter.buy[h]
        sell = np.minimum(meter.sell[h], buy - LEAST_PRICE_GAP)
        self._column("import", hours * (buy + price), meter.import_limit_kw[h])
        self._column("over", hours * (buy + price + problem.penalties.over_eur_per_kwh), INF)
        self._column("export", -hours * (sell + price), meter.export_limit_kw[h])
        self._column("curtailed", 0.0, meter.pv_kw[h] + meter.wind_kw[h])
        net = load_kw - meter.pv_kw[h] - meter.wind_kw[h]
        balance = self._row(net, net, self._steps)
        for name, sign in (("import", 1.0), ("over", 1.0), ("export", -1.0), ("curtailed", -1.0)):
            self._put(balance, self._at[name], sign)

    def _storage(
        self, names: tuple[str, str, str], hours: Floats, gains: tuple[Any, Any], start: float, drift: Any
    ) -> None:
        """energy' = energy + drift + hours (charge gain - discharge / gain'), the first from `start`."""
        side = np.array(np.broadcast_to(np.asarray(drift, dtype=float), self._steps))
        side[0] += start
        row = self._row(side, side, self._steps)
        charge, discharge, energy = (self._at[name] for name in names)
        self._put(row, energy, 1.0)
        self._put(row[1:], energy[:-1], -1.0)
        self._put(row, charge, -hours * gains[0])
        self._put(row, discharge, hours / gains[1])
        self._put(np.arange(self._steps), charge, -1.0)
        self._put(np.arange(self._steps), discharge, 1.0)

    def _battery(self, problem: FleetProblem) -> None:
        battery, h = problem.battery, self._home
        if battery is None or battery.capacity_kwh[h] <= 0:
            return
        wear = problem.hours * battery.wear_eur_per_kwh[h]
        end = np.zeros(self._steps)
        end[-1] = -battery.end_value_eur_per_kwh[h]
        self._column("charge", wear, battery.charge_kw[h])
        self._column("discharge", wear, battery.discharge_kw[h])
        self._column("energy", end, battery.capacity_kwh[h], min(battery.floor_kwh[h], battery.energy_kwh[h]))
        gains = (battery.charge_efficiency[h], battery.discharge_efficiency[h])
        self._storage(("charge", "discharge", "energy"), problem.hours, gains, float(battery.energy_kwh[h]), 0.0)

    def _ev(self, problem: FleetProblem) -> None:
        ev, h, hours = problem.ev, self._home, problem.hours
        if ev is None or ev.capacity_kwh[h] <= 0:
            return
        end = np.zeros(self._steps)
        end[-1] = -ev.end_value_eur_per_kwh[h]
        self._column("ev_charge", 0.0, ev.charge_kw[h] * ev.here[h])
        self._column("v2g", hours * ev.wear_eur_per_kwh[h], ev.discharge_kw[h] * ev.here[h])
        self._column("ev_energy", end, ev.capacity_kwh[h], -INF)
        gains = (ev.charge_efficiency[h], ev.discharge_efficiency[h])
        self._storage(("ev_charge", "v2g", "ev_energy"), hours, gains, float(ev.energy_kwh[h]), -ev.trip_kwh[h])
        reach, energy = np.zeros(self._steps), float(ev.energy_kwh[h])
        for t in range(self._steps):
            more = ev.charge_kw[h] * ev.here[h, t] * ev.charge_efficiency[h] * hours[t]
            energy = min(energy + more - ev.trip_kwh[h, t], ev.capacity_kwh[h])
            reach[t] = energy
        idle = np.maximum(ev.energy_kwh[h] - np.cumsum(ev.trip_kwh[h]), 0.0)
        floor = np.minimum(ev.floor_kwh[h], np.minimum(reach, idle))
        wanted = ev.target_kwh[h] > floor
        prices = problem.penalties
        self._column("short", np.where(wanted, prices.ev_short_eur_per_kwh, prices.bound_eur_per_kwh), INF)
        row = self._row(np.where(wanted, ev.target_kwh[h], floor), INF, self._steps)
        self._put(row, self._at["ev_energy"], 1.0)
        self._put(row, self._at["short"], 1.0)

    def _heat_pump(self, problem: FleetProblem) -> None:
        pump, h = problem.heat_pump, self._home
        if pump is None or pump.power_kw[h] <= 0:
            return
        end = np.zeros(self._steps)
        end[-1] = -pump.end_value_eur_per_k[h]
        price = problem.hours * pump.discomfort_eur_per_k_h[h]
        power = self._column("heat_pump", 0.0, pump.power_kw[h])
        indoor = self._column("indoor", end, INF, -INF)
        cold, hot = self._column("cold", price, INF), self._column("hot", price, INF)
        side = pump.drift_c[h].copy()
        side[0] += pump.left[h, 0] * pump.indoor_c[h]
        row = self._row(side, side, self._steps)
        self._put(row, indoor, 1.0)
        self._put(row[1:], indoor[:-1], -pump.left[h, 1:])
        self._put(row, power, -pump.warm_c_per_kw[h])
        self._put(np.arange(self._steps), power, -1.0)
        for slack, sign, low, high in ((cold, 1.0, pump.low_c[h], INF), (hot, -1.0, -INF, pump.high_c[h])):
            row = self._row(low, high, self._steps)
            self._put(row, indoor, 1.0)
            self._put(row, slack, sign)

    def _appliances(self, problem: FleetProblem) -> None:
        appliances, h = problem.appliances, self._home
        for run in range(0 if appliances is None else appliances.power_kw.shape[1]):
            assert appliances is not None
            if appliances.power_kw[h, run] <= 0:
                continue
            step, energy = np.arange(self._steps), float(appliances.energy_kwh[h, run])
            here = (step >= appliances.first[h, run]) & (step <= appliances.last[h, run]) & (energy > 0)
            power = self._column(f"appliance_{run}", 0.0, appliances.power_kw[h, run] * here)
            short = self._column(f"unserved_{run}", problem.penalties.appliance_short_eur_per_kwh, INF, size=1)
            row = self._row(energy, INF, 1)
            self._put(row, power, problem.hours)
            self._put(row, short, 1.0)
            self._put(self._row(-INF, energy, 1), power, problem.hours)
            self._put(np.arange(self._steps), power, -1.0)

    def _shiftable(self, problem: FleetProblem) -> None:
        runs, h = problem.shiftable, self._home
        edges = np.concatenate([[0.0], np.cumsum(problem.hours)])
        for run in range(0 if runs is None else runs.power_kw.shape[1]):
            assert runs is not None
            if runs.power_kw[h, run] <= 0:
                continue
            starts = np.arange(runs.first[h, run], max(runs.last[h, run], runs.first[h, run]) + 1)
            chosen = self._column(f"run_{run}", 0.0, 1.0, size=starts.size, integer=True)
            self._put(self._row(1.0, 1.0, 1), chosen, 1.0)
            for column, start in zip(chosen, starts, strict=True):
                end = edges[start] + runs.duration_h[h, run]
                overlap = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], edges[start]), 0, None)
                at = np.flatnonzero(overlap > 0)
                power = -runs.power_kw[h, run] * overlap[at] / problem.hours[at]
                self._put(at, np.full(at.size, column), power)

    def _build(self, columns: tuple[Floats, ...], rows: tuple[Floats, ...], entries: tuple[Any, ...]) -> None:
        row, column, value = entries
        order = np.lexsort((row, column))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = columns[0].size, rows[0].size
        model.col_cost_, model.col_lower_, model.col_upper_ = columns
        model.row_lower_, model.row_upper_ = rows
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.num_col_, matrix.num_row_ = columns[0].size, rows[0].size
        matrix.start_ = np.searchsorted(column[order], np.arange(columns[0].size + 1)).astype(np.int32)
        matrix.index_, matrix.value_ = row[order].astype(np.int32), value[order]
        if self._runs:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[integer] for *_, c, integer in self._columns for _ in range(c.size)]
        self._highs.passModel(model)
        self._built = value


def joint_cost(problem: FleetProblem, load_kw: Floats, cap_kw: Floats) -> float:
    """The least cost of all homes together [EUR] whose net imports stay within `cap_kw` (T,): one programme for all.

    By HiGHS's interior point without crossover; for as many homes as patience allows.
    """
    capped = np.flatnonzero(np.isfinite(cap_kw))
    columns: list[Any] = []
    rows: list[Any] = [(np.full(capped.size, -INF), cap_kw[capped])]
    entries: list[Any] = []
    first_column, first_row = 0, capped.size
    for home in range(problem.homes):
        programme = HomeProgramme(problem, home)
        own_columns, own_rows, (row, column, value) = programme._matrices(problem, load_kw[home])
        entries.append((row + first_row, column + first_column, value))
        for name, sign in (("import", 1.0), ("over", 1.0), ("export", -1.0)):
            at = programme._at[name][capped] + first_column
            entries.append((np.arange(capped.size), at, np.full(capped.size, sign)))
        columns.append(own_columns)
        rows.append(own_rows)
        first_column, first_row = first_column + own_columns[0].size, first_row + own_rows[0].size
    whole = HomeProgramme(problem, 0)
    whole._highs.setOptionValue("solver", "ipm")
    whole._highs.setOptionValue("run_crossover", "off")
    whole._build(
        tuple(np.concatenate([part[n] for part in columns]) for n in range(3)),
        tuple(np.concatenate([part[n] for part in rows]) for n in range(2)),
        tuple(np.concatenate([part[n] for part in entries]) for n in range(3)),
    )
    return whole.solve(warm=False)
