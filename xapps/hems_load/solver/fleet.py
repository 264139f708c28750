"""Plans for a fleet: homes grouped by what they have, solved and settled in jobs on several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError
from xapps.hems_load.fleet_problem import Costs, FleetPlan, FleetProblem
from xapps.hems_load.solver.blocks import Frame, Last, Room, kept_rows, solve_homes
from xapps.hems_load.solver.columns import Columns, columns_of
from xapps.hems_load.solver.held import Held
from xapps.hems_load.solver.lanes import LANES
from xapps.hems_load.solver.memory import Memory
from xapps.hems_load.solver.settle import COLUMNS, COST_PARTS, RELAXED, Plans, Settled, project_homes
from xapps.hems_load.solver.storages import NAMES, Devices, Posed
from xapps.hems_load.solver.teams import blended

__all__ = ["Effort", "WarmStart", "project_mix", "project_plan", "solve_fleet"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

JOB = 512
"""Homes that a thread takes at a time: enough that the lanes that wait at the end count for little."""


@dataclass(frozen=True)
class Effort:
    """How exact a solution is to be."""

    gap_eur: float = 0.12
    """Duality gap of each home [EUR over the horizon] ..."""
    gap_share: float = 0.05
    """... or so much of what its last plan costs, where that is more [1] ..."""
    most_gap_eur: float = 1.0
    """... and never more than this [EUR]."""
    most_steps: int = 80
    cold_mu: float = 1e-3
    """Complementarity of a starting point without a last solution [EUR per bound] ..."""
    warm_mu: float = 5e-5
    """... and of one near the last solution."""
    kept_gap_eur: float = 1.0
    """Duality gap of the iterate from which the next solve starts."""
    threads: int = 2

    def gap_of(self, cost_eur: Floats) -> Floats:
        """(N,) duality gap that is small enough for homes whose last plans cost so much [EUR]."""
        return np.maximum(np.minimum(self.gap_share * np.abs(cost_eur), self.most_gap_eur), self.gap_eur)

    @property
    def alike(self) -> Effort:
        """The same with one gap for all homes: plans that are to be mixed, or compared, are to be as exact as that."""
        return replace(self, gap_share=0.0)


@dataclass
class WarmStart:
    """Where the solver may start from next time: iterates of N homes in single precision, by what the homes have."""

    groups: dict[tuple[str, ...], tuple[Ints, Singles]]
    """Kinds of devices -> rows of the homes, iterates (rows, numbers, T)."""
    price: Singles
    """(N, T) marginal price [EUR/kWh]."""
    fleet_price: Floats
    """(T,) [EUR/kWh]."""
    newton_steps: Ints
    """(N,) steps that the last solve took."""
    cost_eur: Floats
    """(N,) what the last plans cost."""
    push: WarmStart | None = None
    """Where the answer to a price that takes all that homes can give may start from, where there was a cap."""
    held: Held | None = None
    """What the homes gave for it."""
    memory: Memory = field(default_factory=Memory)
    """Where the next plans go."""


class _Group(NamedTuple):
    """Homes with the same kinds of devices; those whose last solution is known come first."""

    kinds: tuple[str, ...]
    rows: Ints
    known: Ints
    """Of the first homes, where their last iterates are in `iterates`."""
    iterates: Singles
    devices: Devices
    frame: Frame
    kept: Singles
    """(rows, numbers, T) room for the next iterates."""


class _Job(NamedTuple):
    """Homes `first`..`end` - 1 of a group, all with a last solution or all without."""

    group: _Group
    first: int
    end: int


def solve_fleet(
    problem: FleetProblem, warm: WarmStart | None = None, *, shift_steps: int = 0, effort: Effort | None = None
) -> tuple[FleetPlan, WarmStart]:
    """The best plan of every home at the fleet's price, each within `effort`'s gap of its optimum.

    `warm` is the last solution of the same homes, whose horizon began `shift_steps` steps earlier; a home that did not
    settle, or has other kinds of devices since, starts cold. Always gives a plan: what cannot be kept is relaxed and
    told. Cost linear in homes and steps. Raises TwinRicError SOLVE-FAILED where the problem is not finite. Against:
    HiGHS, tests/unit.
    """
    effort, memory = effort or Effort(), Memory() if warm is None else warm.memory
    if warm is not None and warm.price.shape != (problem.homes, problem.steps):
        warm = None
    columns, plans = columns_of(problem), _plans(problem, memory)
    groups = _groups(problem, columns, memory, warm, effort.most_steps)

    def solve(job: _Job, room: Room) -> None:
        _solve_job(columns, job, room, (warm, shift_steps), effort, plans)

    _in_jobs(groups, solve, effort.threads)
    homes = np.flatnonzero(~np.isfinite(plans.costs.sum(axis=1)))
    if homes.size:
        raise TwinRicError("SOLVE-FAILED", "home", int(homes[0]), "a problem whose numbers are all finite")
    iterates = {group.kinds: (group.rows, group.kept) for group in groups}
    plan = _fleet_plan(problem, plans)
    return plan, WarmStart(iterates, plans.price, plan.fleet_price, plans.taken, plan.costs.total, memory=memory)


def project_plan(problem: FleetProblem, wanted: FleetPlan, *, threads: int = 2) -> FleetPlan:
    """The plan that every device can follow nearest to `wanted`, step by step; runs start when `wanted` says.

    Powers inside their limits, storages inside their bounds, export inside its limit by curtailment. Idempotent.
    """
    plans = _plans(problem, Memory())
    plans.starts[:] = wanted.shiftable_start
    return _project(problem, [wanted], np.ones((1, problem.homes)), plans, threads)


def project_mix(problem: FleetProblem, parts: Sequence[FleetPlan], weights: Floats, *, threads: int = 2) -> FleetPlan:
    """The same of homes that each follow `parts`, K plans, to their `weights` (K, N); `problem` has its runs placed.

    It is written over the last of the `parts`, which is gone after that: fresh memory takes longer than all the rest.
    """
    own = parts[-1].net_kw.base
    plans = _plans(problem, Memory(), None if own is None or own.ndim < 3 else own)
    return _project(problem, parts, weights, plans, threads)


def _project(
    problem: FleetProblem, parts: Sequence[FleetPlan], weights: Floats, plans: Plans, threads: int
) -> FleetPlan:
    columns = columns_of(problem)
    names = ("battery_kw", "ev_kw", "hvac_kw", "marginal_price", "appliance_kw")
    wanted = [[np.require(getattr(part, name), np.float64, ("C", "W")) for part in parts] for name in names]

    def project(job: _Job, _: Room) -> None:
        devices, rows = job.group.devices, job.group.rows[job.first : job.end]
        *power, price, appliances = (blended(of, weights, rows) for of in wanted)
        posed, room = Posed.room(1, devices, problem.steps), Settled.room(devices, problem.steps)
        project_homes(columns, devices, posed, room, rows, tuple(power), appliances, price, plans)

    _in_jobs(_groups(problem, columns, Memory()), project, threads)
    return _fleet_plan(problem, plans)


def _in_jobs(groups: list[_Group], work: Callable[[_Job, Room], None], threads: int) -> None:
    """All groups' homes, in jobs on so many threads, the largest jobs first."""
    jobs = [
        _Job(group, first, min(first + JOB, end))
        for group in groups
        for begin, end in ((0, group.known.size), (group.known.size, group.rows.size))
        for first in range(begin, end, JOB)
    ]
    jobs.sort(key=lambda job: job.first - job.end)
    rooms: SimpleQueue[Room] = SimpleQueue()
    frames = [group.frame for group in groups]
    for _ in range(max(threads, 1)):
        rooms.put(Room(frames))

    def finish(job: _Job) -> None:
        room = rooms.get()
        work(job, room)
        rooms.put(room)

    if threads > 1 and len(jobs) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(finish, jobs))
    else:
        for job in jobs:
            finish(job)


def _groups(
    problem: FleetProblem, columns: Columns, memory: Memory, warm: WarmStart | None = None, most_steps: int = 0
) -> list[_Group]:
    """Homes with the same kinds of devices; what no home of a group has is left out of its problem."""
    sizes = {
        "battery": None if problem.battery is None else problem.battery.capacity_kwh,
        "ev": None if problem.ev is None else problem.ev.capacity_kwh,
        "heat_pump": None if problem.heat_pump is None else problem.heat_pump.power_kw,
        "appliances": None if problem.appliances is None else problem.appliances.power_kw.max(axis=1, initial=0.0),
    }
    code = np.zeros(problem.homes, dtype=np.int64)
    for bit, name in enumerate(NAMES):
        if sizes[name] is not None:
            code += (np.asarray(sizes[name]) > 0).astype(np.int64) << bit
    groups = []
    for value in np.unique(code).tolist():
        kinds = tuple(name for bit, name in enumerate(NAMES) if value >> bit & 1)
        groups.append(_group(kinds, np.flatnonzero(code == value), columns, memory, (warm, most_steps)))
    return groups


def _group(
    kinds: tuple[str, ...], rows: Ints, columns: Columns, memory: Memory, last: tuple[WarmStart | None, int]
) -> _Group:
    warm, most_steps = last
    devices = Devices.of(columns, kinds)
    numbers, steps = kept_rows(devices.kind.size), columns.hours.size
    kept = memory.take((rows.size, numbers, steps), np.float32)
    known, iterates = rows[:0], kept
    if warm is not None and kinds in warm.groups:
        known_rows, iterates = warm.groups[kinds]
        place = np.full(columns.traits.shape[0], -1, dtype=np.int64)
        # An iterate that did not settle leads nowhere, and one that is not finite would stay so.
        place[known_rows] = np.where(warm.newton_steps[known_rows] > most_steps, -1, np.arange(known_rows.size))
        usable = (place[rows] >= 0) & (iterates.shape[1] == numbers)
        rows = np.concatenate([rows[usable], rows[~usable]])
        known = place[rows[: int(usable.sum())]]
    return _Group(kinds, rows, known, iterates, devices, Frame.of(devices, steps), kept)


def _solve_job(
    columns: Columns, job: _Job, room: Room, warm: tuple[WarmStart | None, int], effort: Effort, plans: Plans
) -> None:
    """Solve and settle the homes of one job; leaves their iterates in the group's `kept`."""
    group, own, steps = job.group, slice(job.first, job.end), columns.hours.size
    rows, kept, devices = group.rows[own], group.kept[own], group.devices
    # Zeroed for each job: homes without runs write no load of theirs, and another group's rows mean something else.
    posed, settled = Posed.room(LANES, devices, steps), Settled.room(devices, steps)
    every = np.arange(rows.size)

    def run(last: Last, mu: float) -> None:
        work, kept_gap = room.workspace(group.frame), effort.kept_gap_eur
        solve_homes(columns, work, devices, posed, settled, last, kept, effort.most_steps, kept_gap, mu, plans)

    if warm[0] is not None and job.first < group.known.size:
        gap = effort.gap_of(warm[0].cost_eur[rows])
        return run(Last(rows, group.iterates, group.known[own], warm[1], warm[0].price, warm[1], gap), effort.warm_mu)
    shift, mu = -1, effort.cold_mu
    if columns.run_kw.shape[1]:
        run(Last(rows, kept, every, shift, plans.price, -1, np.full(rows.size, effort.kept_gap_eur)), mu)
        shift, mu = 0, effort.warm_mu
    return run(Last(rows, kept, every, shift, plans.price, 0, np.full(rows.size, effort.gap_eur)), mu)


def _plans(problem: FleetProblem, memory: Memory, columns: Floats | None = None) -> Plans:
    """Room for the plans of all homes, from `memory` or in `columns`."""
    homes, steps = problem.homes, problem.steps
    slots = 0 if problem.appliances is None else problem.appliances.power_kw.shape[1]
    runs = 0 if problem.shiftable is None else problem.shiftable.power_kw.shape[1]
    return Plans(
        columns=memory.take((COLUMNS, homes, steps)) if columns is None else columns,
        appliance_kw=np.empty((homes, slots, steps)),
        starts=np.full((homes, runs), -1, dtype=np.int64), costs=np.zeros((homes, COST_PARTS)),
        relaxed=np.zeros((RELAXED, homes)), price=np.empty((homes, steps), dtype=np.float32),
        taken=np.zeros(homes, dtype=np.int64),
    )  # fmt: skip


def _fleet_price(problem: FleetProblem) -> Floats:
    """(T,) the fleet's price, of one that differs between homes the mean."""
    price = problem.fleet_price
    if price is None:
        return np.zeros(problem.steps)
    return np.array(price.mean(axis=0) if price.ndim == 2 else price)


CODES = (
    "BATTERY_BOUND_RELAXED", "EV_TARGET_RELAXED", "COMFORT_RELAXED", "APPLIANCE_RELAXED", "CONTRACT_RELAXED",
)  # fmt: skip


def _fleet_plan(problem: FleetProblem, plans: Plans) -> FleetPlan:
    net, pv, wind, price, runs, battery, ev, hvac, battery_kwh, ev_kwh, indoor = plans.columns
    return FleetPlan(
        net_kw=net, pv_kw=pv, wind_kw=wind, battery_kw=battery, ev_kw=ev, hvac_kw=hvac,
        appliance_kw=plans.appliance_kw, shiftable_kw=runs, shiftable_start=plans.starts, battery_kwh=battery_kwh,
        ev_kwh=ev_kwh, indoor_c=indoor, marginal_price=price, costs=Costs(*plans.costs.T),
        relaxed=dict(zip(CODES, plans.relaxed, strict=True)), fleet_price=_fleet_price(problem),
        miss_kw=np.zeros(problem.steps),
    )  # fmt: skip
