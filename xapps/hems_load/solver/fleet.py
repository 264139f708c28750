"""Plans for a fleet: homes grouped by what they have, solved in chunks on several threads, settled, put together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError
from xapps.hems_load.fleet_problem import Costs, FleetPlan, FleetProblem
from xapps.hems_load.solver.blocks import Workspace, kept_rows, solve_homes
from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.runs import choose_starts, run_load, smeared_load
from xapps.hems_load.solver.settle import COST_PARTS, settle
from xapps.hems_load.solver.storages import OVER, SEGMENTS, Storages, as_storages, device_names

__all__ = ["Effort", "WarmStart", "project_plan", "solve_fleet"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

KINDS = ("battery", "ev", "heat_pump", "appliances")
CHUNK = 256
"""Homes that a thread takes at a time: sixteen blocks, so that few lanes wait at the end."""


@dataclass(frozen=True)
class Effort:
    """How exact a solution is to be."""

    gap_eur: float = 0.12
    """Duality gap of each home [EUR over the horizon]."""
    most_steps: int = 80
    cold_mu: float = 1e-3
    """Complementarity of a starting point without a last solution [EUR per bound] ..."""
    warm_mu: float = 2e-4
    """... and of one near the last solution."""
    kept_gap_eur: float = 1.0
    """Duality gap of the iterate from which the next solve starts."""
    threads: int = 2


@dataclass
class WarmStart:
    """Where the solver may start from next time: iterates of N homes in single precision, by what the homes have."""

    groups: dict[tuple[str, ...], tuple[Ints, Singles]]
    """Kinds of devices -> rows of the homes, iterates (rows, T, numbers)."""
    price: Singles
    """(N, T) marginal price [EUR/kWh]."""
    fleet_price: Floats
    """(T,) [EUR/kWh]."""
    newton_steps: Ints
    """(N,) steps that the last solve took."""


class _Solution(NamedTuple):
    """What the compiled code leaves, homes of one chunk: power of the devices' boxes, price, steps."""

    power_kw: Floats
    price: Floats
    taken: Ints


class _Job(NamedTuple):
    """Homes of one group that a thread takes at a time; `first` is where they begin in the group."""

    rows: Ints
    kinds: tuple[str, ...]
    first: int


@dataclass(frozen=True)
class _Chunk:
    """Homes with the same kinds of devices and their problem, in which the runs have become load."""

    rows: Ints
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    problem: FleetProblem
    load_kw: Floats
    starts: Ints | None

    @classmethod
    def of(cls, fleet: FleetProblem, job: _Job, starts: Ints | None = None) -> _Chunk:
        """The chunk of `job`, with runs at `starts` (-1 where there is none)."""
        absent: dict[str, Any] = {kind: None for kind in KINDS if kind not in job.kinds}
        problem = replace(fleet, **absent).take(job.rows)
        chunk = cls(job.rows, job.kinds, device_names(problem), problem, problem.meter.load_kw, None)
        return chunk if problem.shiftable is None or starts is None else chunk.with_runs(starts)

    def with_runs(self, starts: Ints) -> _Chunk:
        """The same with its runs at `starts`."""
        runs = self.problem.shiftable
        assert runs is not None
        load = self.problem.meter.load_kw + run_load(runs, self.problem.hours, starts)
        return replace(self, load_kw=load, starts=starts)


@dataclass(frozen=True)
class _Part:
    """A chunk's solution and settled plan; as `settle` fills it."""

    chunk: _Chunk
    solution: _Solution
    flows: Floats
    states: Floats
    net: Floats
    curtailed: Floats
    costs: Floats
    short: Floats
    dearest: Floats
    """(N, T) price of import beyond the contract, at which one more kWh can always be had; where nothing may flow the
    solver's multiplier is any number, and is held to this."""


def solve_fleet(
    problem: FleetProblem, warm: WarmStart | None = None, *, shift_steps: int = 0, effort: Effort | None = None
) -> tuple[FleetPlan, WarmStart]:
    """The best plan of every home at the fleet's price, each within `effort.gap_eur` of its optimum.

    `warm` is the last solution of the same homes, whose horizon began `shift_steps` steps earlier; where it did not
    settle, the start is cold. Always gives a plan: what cannot be kept is relaxed and told. Cost linear in homes and
    steps. Raises TwinRicError SOLVE-FAILED where the problem is not finite. Against: HiGHS, tests/unit.
    """
    effort = effort or Effort()
    if warm is not None and warm.price.shape != (problem.homes, problem.steps):
        warm = None

    def solve(chunk: _Job, kept: Singles) -> _Part:
        last = None if warm is None else (warm, shift_steps)
        return _solve_chunk(problem, chunk, last, kept, effort)

    plan, last = _in_chunks(problem, solve, effort.threads)
    homes = np.flatnonzero(~np.isfinite(plan.net_kw.sum(axis=1) + plan.costs.total))
    if homes.size:
        raise TwinRicError("SOLVE-FAILED", "home", int(homes[0]), "a problem whose numbers are all finite")
    return plan, last


def project_plan(problem: FleetProblem, wanted: FleetPlan, *, threads: int = 2) -> FleetPlan:
    """The plan that every device can follow nearest to `wanted`, step by step; runs start when `wanted` says.

    Powers inside their limits, storages inside their bounds, export inside its limit by curtailment. Idempotent.
    """

    def settle_chunk(chunk: _Job, _: Singles) -> _Part:
        home = _Chunk.of(problem, chunk, wanted.shiftable_start[chunk.rows])
        storages = as_storages(home.problem, home.load_kw)
        boxes, power = [], np.zeros((storages.of.size - SEGMENTS, *home.load_kw.shape))
        flows = _flows(wanted, home)
        for box, device in enumerate(storages.of[SEGMENTS:].tolist()):
            is_outlet = device in boxes
            boxes.append(device)
            power[box] = np.maximum(-flows[device] if is_outlet else flows[device], 0)
        price = wanted.marginal_price[chunk.rows] * problem.hours
        return _settled(home, storages, _Solution(power, price, np.zeros(chunk.rows.size, dtype=np.int64)))

    plan, _ = _in_chunks(problem, settle_chunk, threads)
    return plan


def _flows(plan: FleetPlan, chunk: _Chunk) -> list[Floats]:
    """Power of each of the chunk's devices in `plan` [kW]."""
    kinds = {"battery": plan.battery_kw, "ev": plan.ev_kw, "heat_pump": plan.hvac_kw}
    return [
        kinds[name][chunk.rows]
        if name in kinds
        else plan.appliance_kw[chunk.rows, int(name.removeprefix("appliance_"))]
        for name in chunk.names
    ]


def _in_chunks(
    problem: FleetProblem, work: Callable[[_Job, Singles], _Part], threads: int
) -> tuple[FleetPlan, WarmStart]:
    groups = _groups(problem)
    jobs = [
        _Job(rows[first : first + CHUNK], kinds, first)
        for rows, kinds in groups
        for first in range(0, rows.size, CHUNK)
    ]
    assembly = _Assembly(problem, groups)

    def finish(job: _Job) -> None:
        assembly.add(job, work(job, assembly.kept(job)))

    if threads > 1 and len(jobs) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(finish, jobs))
    else:
        for job in jobs:
            finish(job)
    return assembly.plan(), assembly.warm


@compiled
def _place(values: Floats, rows: Ints, into: Floats) -> None:
    """`values` (n, T) into the `rows` (n,) of `into` (N, T), while other threads run."""
    for home in range(rows.size):
        for t in range(into.shape[1]):
            into[rows[home], t] = values[home, t]


def _groups(problem: FleetProblem) -> list[tuple[Ints, tuple[str, ...]]]:
    """Homes with the same kinds of devices; what no home of a group has is left out of its problem."""
    sizes = {
        "battery": None if problem.battery is None else problem.battery.capacity_kwh,
        "ev": None if problem.ev is None else problem.ev.capacity_kwh,
        "heat_pump": None if problem.heat_pump is None else problem.heat_pump.power_kw,
        "appliances": None if problem.appliances is None else problem.appliances.power_kw.max(axis=1, initial=0.0),
    }
    kinds = [name for name, size in sizes.items() if size is not None]
    code = np.zeros(problem.homes, dtype=np.int64)
    for bit, name in enumerate(kinds):
        code += (np.asarray(sizes[name]) > 0).astype(np.int64) << bit
    return [
        (np.flatnonzero(code == value), tuple(name for bit, name in enumerate(kinds) if value >> bit & 1))
        for value in np.unique(code).tolist()
    ]


def _solve_chunk(
    fleet: FleetProblem, job: _Job, warm: tuple[WarmStart, int] | None, kept: Singles, effort: Effort
) -> _Part:
    """Solve and settle one chunk, from the last solution and the steps since then; leaves its iterates in `kept`."""
    chunk = _Chunk.of(fleet, job)
    runs, hours = chunk.problem.shiftable, chunk.problem.hours
    if warm is not None and (warm[0].newton_steps[job.rows] > effort.most_steps).any():
        warm = None  # an iterate that did not settle leads nowhere, and one that is not finite would stay so
    known = None if warm is None else _kept(warm[0], job)
    last = None if warm is None or known is None else (known, warm[1])
    if runs is not None and runs.power_kw.any():
        if warm is not None:
            price = _shifted(warm[0].price[job.rows], warm[1]).astype(np.float64)
        else:
            guess = as_storages(chunk.problem, chunk.load_kw + smeared_load(runs, hours))
            rough = _run(guess, last, kept, replace(effort, gap_eur=effort.kept_gap_eur))
            last, price = (kept, 0), rough.price / hours
        chunk = chunk.with_runs(choose_starts(runs, hours, price))
    storages = as_storages(chunk.problem, chunk.load_kw)
    return _settled(chunk, storages, _run(storages, last, kept, effort))


def _kept(warm: WarmStart, job: _Job) -> Singles | None:
    """Iterates of the job's homes; None where others had these kinds last time."""
    known, iterates = warm.groups.get(job.kinds, (job.rows[:0], None))
    own = slice(job.first, job.first + job.rows.size)
    return None if iterates is None or not np.array_equal(known[own], job.rows) else iterates[own]


def _shifted(values: Singles, shift: int) -> Singles:
    """(..., T) values as seen `shift` steps later; the last one stays."""
    steps = values.shape[-1]
    return np.asarray(np.take(values, np.minimum(np.arange(steps) + shift, steps - 1), axis=-1))


def _run(s: Storages, last: tuple[Singles, int] | None, kept: Singles, effort: Effort) -> _Solution:
    """Solve from the iterates and the number of steps since then in `last`, or from none; new ones go to `kept`."""
    _, homes, steps = s.low.shape
    boxes = s.of.size
    shift, mu = -1, effort.cold_mu
    if last is not None:
        kept[:], shift, mu = last[0], last[1], effort.warm_mu
    power, price = np.empty((boxes - SEGMENTS, homes, steps)), np.empty((homes, steps))
    taken = np.zeros(homes, dtype=np.int64)
    work, gaps = Workspace.of(s), np.array([effort.gap_eur, effort.kept_gap_eur])
    solve_homes(s, work, s.first_box, kept, shift, effort.most_steps, gaps, mu, power, price, taken)
    return _Solution(power, price, taken)


def _settled(chunk: _Chunk, s: Storages, solution: _Solution) -> _Part:
    n, homes, steps = s.low.shape
    flows, states = np.empty((n, homes, steps)), np.empty((n, homes, steps))
    net, curtailed = np.empty((homes, steps)), np.empty((homes, steps))
    costs, short = np.zeros((homes, COST_PARTS)), np.zeros((homes, n + 1))
    settle(s, s.first_box, solution.power_kw, flows, states, net, curtailed, costs, short)
    dearest = s.cost[OVER] / s.hours
    return _Part(chunk, solution, flows, states, net, curtailed, costs, short, dearest)


RELAXED = {"battery": "BATTERY_BOUND_RELAXED", "ev": "EV_TARGET_RELAXED", "heat_pump": "COMFORT_RELAXED"}
_COLUMNS = {
    "battery": ("battery_kw", "battery_kwh"), "ev": ("ev_kw", "ev_kwh"), "heat_pump": ("hvac_kw", "indoor_c"),
}  # fmt: skip


class _Assembly:
    """The fleet's plan and warm start, filled part by part."""

    def __init__(self, problem: FleetProblem, groups: list[tuple[Ints, tuple[str, ...]]]) -> None:
        shape = (problem.homes, problem.steps)
        self._problem = problem
        runs = 0 if problem.appliances is None else problem.appliances.power_kw.shape[1]
        self._columns = {name: np.zeros(shape) for pair in _COLUMNS.values() for name in pair}
        self._columns |= {name: np.zeros(shape) for name in ("net_kw", "pv_kw", "wind_kw", "price", "shiftable_kw")}
        self._appliance_kw = np.zeros((problem.homes, runs, problem.steps))
        self._costs = np.zeros((problem.homes, COST_PARTS))
        kinds = 0 if problem.shiftable is None else problem.shiftable.power_kw.shape[1]
        self._starts = np.full((problem.homes, kinds), -1, dtype=np.int64)
        self._relaxed = {code: np.zeros(problem.homes) for code in (*RELAXED.values(), "APPLIANCE_RELAXED")}
        self._relaxed["CONTRACT_RELAXED"] = np.zeros(problem.homes)
        price = problem.fleet_price
        fleet = np.zeros(problem.steps) if price is None else np.broadcast_to(price, shape).mean(axis=0)
        storages = {kinds: len(kinds) + (runs - 1) * ("appliances" in kinds) for _, kinds in groups}
        self._groups = {
            kinds: (rows, np.empty((rows.size, kept_rows(storages[kinds]), problem.steps), dtype=np.float32))
            for rows, kinds in groups
        }
        taken = np.zeros(problem.homes, dtype=np.int64)
        self._warm = WarmStart({}, np.zeros(shape, np.float32), np.array(fleet), taken)

    @property
    def warm(self) -> WarmStart:
        """Where to start from next time."""
        return replace(self._warm, groups=self._groups)

    def kept(self, job: _Job) -> Singles:
        """Room for the iterates of the homes of `job`."""
        return self._groups[job.kinds][1][job.first : job.first + job.rows.size]

    def add(self, job: _Job, part: _Part) -> None:
        """Take over one chunk, from any thread: chunks write to rows of their own."""
        chunk, columns, rows = part.chunk, self._columns, job.rows
        price = part.solution.price
        price /= self._problem.hours
        np.clip(price, -part.dearest, part.dearest, out=price)
        meter = chunk.problem.meter
        wind_cut = np.minimum(part.curtailed, meter.wind_kw)
        pv_kw, wind_kw = meter.pv_kw - (part.curtailed - wind_cut), meter.wind_kw - wind_cut
        for name, values in (("net_kw", part.net), ("pv_kw", pv_kw), ("wind_kw", wind_kw), ("price", price)):
            _place(values, rows, columns[name])
        if chunk.starts is not None:
            self._starts[rows] = chunk.starts
            columns["shiftable_kw"][rows] = chunk.load_kw - self._problem.meter.load_kw[rows]
        self._costs[rows] = part.costs
        self._relaxed["CONTRACT_RELAXED"][rows] = part.short[:, -1]
        self._warm.price[rows], self._warm.newton_steps[rows] = price, part.solution.taken
        for n, name in enumerate(chunk.names):
            self._relaxed[RELAXED.get(name, "APPLIANCE_RELAXED")][rows] += part.short[:, n]
            if name in _COLUMNS:
                power, state = _COLUMNS[name]
                _place(part.flows[n], rows, columns[power])
                _place(part.states[n], rows, columns[state])
            else:
                self._appliance_kw[rows, int(name.removeprefix("appliance_"))] = part.flows[n]

    def plan(self) -> FleetPlan:
        """The plan of all homes."""
        columns = self._columns
        return FleetPlan(
            net_kw=columns["net_kw"], pv_kw=columns["pv_kw"], wind_kw=columns["wind_kw"],
            battery_kw=columns["battery_kw"], ev_kw=columns["ev_kw"], hvac_kw=columns["hvac_kw"],
            appliance_kw=self._appliance_kw, shiftable_kw=columns["shiftable_kw"], shiftable_start=self._starts,
            battery_kwh=columns["battery_kwh"], ev_kwh=columns["ev_kwh"], indoor_c=columns["indoor_c"],
            marginal_price=columns["price"], costs=Costs(*self._costs.T), relaxed=self._relaxed,
            fleet_price=self._warm.fleet_price, miss_kw=np.zeros(self._problem.steps),
        )  # fmt: skip
