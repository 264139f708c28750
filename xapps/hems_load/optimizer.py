"""Decides: new plans when they are due, and at each report the set-points that follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from ric.decision import Reason
from ric.errors import TwinRicError
from xapps.hems_load.decision import Decision
from xapps.hems_load.explain import Explainer, Moment
from xapps.hems_load.fallback import comfort_points
from xapps.hems_load.fleet_limits import FleetLimits, keep_fleet_limits
from xapps.hems_load.fleet_problem import RELAXATION_FLOORS, FleetPlan
from xapps.hems_load.horizon import NS, STEP_S, means_between
from xapps.hems_load.policy import HemsPolicy, import_cap_kw
from xapps.hems_load.problems import Slots, pose_fleet, slots_of
from xapps.hems_load.projection import Projected, faults_of, project
from xapps.hems_load.solver import Effort, WarmStart, coordinate_fleet, solve_fleet
from xapps.hems_load.solver.coordination import EVENNESS_EUR
from xapps.hems_load.solver.regrid import regrid
from xapps.hems_load.state import State
from xapps.hems_load.tracking import PlanNow, track

__all__ = ["Limits", "Optimizer"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CAP_MARGIN = 0.03
"""Share of a cap that is kept free in real time: the next minute differs from the last."""
LEAST_SHARE = 0.02
"""Share of an appliance's power in a plan that is the solver's rounding [1]."""
GOLDEN = 0.6180339887498949
"""Multiples of it, taken modulo 1, are spread evenly however many there are."""
MISS_TOLERANCE_KW = 0.1
"""A limit passed by no more than this counts as kept [kW]."""


@dataclass(frozen=True)
class Limits:
    """How often to plan, how many rounds of price coordination a plan may take, and on how many threads."""

    plan_every_s: float = 900.0
    price_rounds: int = 6
    threads: int = 2


@dataclass(frozen=True)
class _Standing:
    """The plans in force and what they were made from. Rows of `plan` begin at `start_ns` (N,)."""

    plan: FleetPlan
    warm: WarmStart
    made_ns: int
    start_ns: Ints
    renewable_kw: tuple[Floats, Floats]
    """(N, T) PV and wind that the plan expects."""
    policy: HemsPolicy
    forecast_ns: int
    ev_connected: Floats
    ids: tuple[str, ...]
    job_ids: tuple[str, ...]
    slots: Slots


class Optimizer:
    """Plans of one node. Not thread-safe; one `decide` at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._standing: _Standing | None = None
        self._dr_reference_kw: tuple[object, float] | None = None
        self._last_ns = 0
        self._explainer = Explainer()

    @property
    def plan(self) -> FleetPlan | None:
        """The plan in force."""
        return None if self._standing is None else self._standing.plan

    def decide(self, state: State, policy: HemsPolicy, may_go_on: Callable[[], bool] = lambda: True) -> Decision:
        """Set-points for all homes of `state`.

        Plans anew when the plan is `plan_every_s` old, when policy or forecast changed, for single homes when their EV
        came or went; otherwise follows the plan in force. Raises TwinRicError SOLVE-FAILED.
        """
        why = self._due(state, policy)
        if why:
            self._plan(state, policy, may_go_on)
        else:
            self._replan_moved_cars(state, policy)
        return self._follow(state, policy, Reason(why or "FOLLOW_PLAN"))

    def follow(self, state: State, policy: HemsPolicy, why: Reason) -> Decision | None:
        """Set-points from the last plan, shifted to now, where no new one can be had; None without one that reaches
        until now.
        """
        standing = self._standing
        if standing is None or standing.ids != state.homes.ids:
            return None
        age_s = (state.source_time_ns - standing.made_ns) / NS
        if not 0 <= age_s < 3600 * state.steps.edges_h(standing.made_ns)[-1]:
            return None
        return self._follow(state, policy, replace(why, numbers={**why.numbers, "plan_age_s": age_s}))

    # Planning -------------------------------------------------------------------------------------------------

    def _due(self, state: State, policy: HemsPolicy) -> str:
        standing = self._standing
        if standing is None or standing.ids != state.homes.ids:
            return "FIRST_PLAN"
        if standing.policy is not policy and standing.policy != policy:
            return "POLICY_CHANGED"
        if state.forecast_ns > standing.forecast_ns:
            return "NEW_FORECAST"
        age_s = (state.source_time_ns - standing.made_ns) / NS
        return "PLAN_AGED" if age_s >= self._limits.plan_every_s or age_s < 0 else ""

    def _plan(self, state: State, policy: HemsPolicy, may_go_on: Callable[[], bool]) -> None:
        problem, old = pose_fleet(state, policy), self._standing
        self._note_dr_reference(state, policy)
        cap = np.array([self._cap_kw(policy, state.time_s + 3600 * begin_h) for begin_h in state.edges_h[:-1]])
        warm, options = _warm_start(old, state), dict[str, Any](effort=Effort(threads=self._limits.threads))
        if np.isfinite(cap).any():
            rounds = self._limits.price_rounds
            options |= {"rounds": rounds, "may_go_on": may_go_on, "evenness_eur": 2 * EVENNESS_EUR * policy.fairness}
            plan, warm = coordinate_fleet(problem, cap, warm, **options)
        else:
            plan, warm = solve_fleet(problem, warm, **options)
        number = len(state.homes)
        self._standing = _Standing(
            plan=plan, warm=warm, made_ns=state.source_time_ns, start_ns=np.full(number, state.source_time_ns),
            renewable_kw=(state.horizon.pv_kw, state.horizon.wind_kw), policy=policy, forecast_ns=state.forecast_ns,
            ev_connected=state.report["ev_connected"].copy(), ids=state.homes.ids, job_ids=state.jobs.ids,
            slots=slots_of(state.jobs),
        )  # fmt: skip

    def _replan_moved_cars(self, state: State, policy: HemsPolicy) -> None:
        """New plans, at the shadow price in force, for homes whose EV came or went since their plan."""
        standing = self._standing
        if standing is None:
            return
        moved = np.flatnonzero(standing.ev_connected != state.report["ev_connected"])
        if not moved.size:
            return
        problem = pose_fleet(state, policy)
        begins_ns = state.steps.edges_ns(state.source_time_ns)[:-1]
        then = [int(state.steps.at(_one(standing.made_ns), int(begin_ns))[0]) for begin_ns in begins_ns]
        problem = replace(problem, fleet_price=standing.plan.fleet_price[then])
        fresh, _ = solve_fleet(problem.take(moved), effort=Effort(threads=1))
        start_ns = standing.start_ns.copy()
        start_ns[moved] = state.source_time_ns
        renewable = []
        for old, new in zip(standing.renewable_kw, (state.horizon.pv_kw, state.horizon.wind_kw), strict=True):
            renewable.append(old.copy())
            renewable[-1][moved] = new[moved]
        self._standing = replace(
            standing,
            plan=_with_rows(standing.plan, moved, fresh),
            start_ns=start_ns,
            renewable_kw=(renewable[0], renewable[1]),
            ev_connected=state.report["ev_connected"].copy(),
            slots=_with_slots(standing.slots, slots_of(state.jobs), np.isin(state.jobs.home, moved)),
        )

    def _note_dr_reference(self, state: State, policy: HemsPolicy) -> None:
        """Fix what a demand-response event counts from, once: the mean of the plan before it was known."""
        event = policy.dr_event
        if event is None or (self._dr_reference_kw is not None and self._dr_reference_kw[0] == event):
            return
        standing = self._standing
        if standing is None:
            self._dr_reference_kw = (event, float(state.report["import_kw"].sum()))
            return
        edges_s = state.steps.edges_ns(standing.made_ns) / NS
        within = np.diff(np.clip(edges_s, event.start_s, event.end_s))
        within[-1] += within.sum() <= 0  # an event beyond the plan counts from the plan's end
        self._dr_reference_kw = (event, float(np.average(standing.plan.fleet_net_kw, weights=within)))

    def _cap_kw(self, policy: HemsPolicy, time_s: float) -> float:
        cap, event = import_cap_kw(policy, time_s), policy.dr_event
        due = None if event is None else event.due_kw(time_s)
        if due is None or self._dr_reference_kw is None:
            return cap
        return min(cap, max(self._dr_reference_kw[1] - due, 0.0))

    # Following ------------------------------------------------------------------------------------------------

    def _follow(self, state: State, policy: HemsPolicy, why: Reason) -> Decision:
        standing = self._standing
        if standing is None:  # unreachable: `decide` plans first, `follow` asks
            raise TwinRicError("SOLVE-FAILED", "plan", "(none)", "a plan in force")
        now = _plan_now(standing, state)
        cap = self._cap_kw(policy, state.time_s)
        age_s = 60.0 if not self._last_ns else (state.source_time_ns - self._last_ns) / NS
        self._last_ns = state.source_time_ns
        safe = project(state, track(state, now, policy), policy)
        kept = keep_fleet_limits(state, safe.points, cap * (1 - CAP_MARGIN), policy, age_s)
        safe = replace(safe, points=project(state, kept.points, policy).points)
        safe = _mend(state, safe, policy)
        step = int(state.steps.at(_one(standing.made_ns), state.source_time_ns)[0])
        miss = max(float(safe.points.net_kw(state).sum()) - cap, float(standing.plan.miss_kw[step:].max(initial=0.0)))
        missed = {"cap": miss, "ramp": kept.ramp_miss_kw, "reserve": kept.reserve_miss_kw}
        missed = {name: value if value > MISS_TOLERANCE_KW else 0.0 for name, value in missed.items()}
        moment = Moment(state, policy, standing.plan, standing.start_ns, now, safe, kept.given_kw, cap)
        reason = _reason(why, moment, kept, missed, self._explainer.lines(moment))
        plan = _plan_table(standing, state) if standing.made_ns == state.source_time_ns else None
        return Decision.of(state, safe.points, reason=reason, missed_kw=missed, plan=plan)


def _warm_start(standing: _Standing | None, state: State) -> WarmStart | None:
    """The last solution, as seen from the steps of now; None for other homes."""
    if standing is None or standing.ids != state.homes.ids:
        return None
    late_h = (state.source_time_ns - standing.made_ns) / (3600 * NS)
    return regrid(standing.warm, state.steps.edges_h(standing.made_ns), state.edges_h + late_h)


def _one(time_ns: int) -> Ints:
    return np.array([time_ns])


def _plan_now(standing: _Standing, state: State) -> PlanNow:
    plan = standing.plan
    rows = np.arange(len(state.homes))
    step = state.steps.at(standing.start_ns, state.source_time_ns)
    names = ("net_kw", "battery_kw", "ev_kw", "hvac_kw", "pv_kw", "wind_kw")
    now = {name: getattr(plan, name)[rows, step] for name in names}
    pv, wind = (expected[rows, step] for expected in standing.renewable_kw)
    run = _run_now(standing, state, step)
    return PlanNow(**now, pv_expected_kw=pv, wind_expected_kw=wind, run=run)


def _run_now(standing: _Standing, state: State, step: Ints) -> NDArray[np.bool_]:
    """(K,) whether the plan has each appliance running; part of its power means that part of the time, in turns."""
    jobs, plan, slots = state.jobs, standing.plan, standing.slots
    run = np.zeros(len(jobs), dtype=bool)
    if standing.job_ids != jobs.ids:
        return run
    rows = _planned(slots.interruptible, plan.appliance_kw.shape[1])
    home = jobs.home[rows]
    planned, whole = plan.appliance_kw[home, slots.interruptible[rows], step[home]], jobs.power_kw[rows]
    # Each has its own turn in a quarter of an hour: all at its beginning would be a peak of one minute.
    turn = (state.time_s / STEP_S + rows * GOLDEN) % 1
    run[rows] = (planned > LEAST_SHARE * whole) & (turn * whole < planned + LEAST_SHARE * whole)
    rows = _planned(slots.shiftable, plan.shiftable_start.shape[1])
    home = jobs.home[rows]
    start = plan.shiftable_start[home, slots.shiftable[rows]]
    run[rows] = (start >= 0) & (step[home] >= start)
    return run


def _planned(slots: Ints, width: int) -> NDArray[np.intp]:
    """Appliances that the plan knows: a job beyond its horizon has a slot that no plan filled."""
    return np.flatnonzero((slots >= 0) & (slots < width))


def _with_rows(plan: FleetPlan, rows: Ints, fresh: FleetPlan) -> FleetPlan:
    """`plan` with the homes in `rows` replaced; appliance slots that only one of the two has are filled up."""
    changed: dict[str, Any] = {}
    for field in fields(FleetPlan):
        old, new = getattr(plan, field.name), getattr(fresh, field.name)
        if field.name in ("appliance_kw", "shiftable_start"):
            changed[field.name] = _widened(old, rows, new, -1 if field.name == "shiftable_start" else 0)
        elif field.name == "relaxed":
            changed["relaxed"] = {code: _put(values, rows, new[code]) for code, values in old.items()}
        elif field.name == "costs":
            changed["costs"] = replace(
                old, **{part.name: _put(getattr(old, part.name), rows, getattr(new, part.name)) for part in fields(old)}
            )
        elif field.name not in ("fleet_price", "miss_kw", "rounds"):
            changed[field.name] = _put(old, rows, new)
    return replace(plan, **changed)


def _put(old: Any, rows: Ints, new: Any) -> Any:
    result = old.copy()
    result[rows] = new
    return result


def _widened(old: Any, rows: Ints, new: Any, nothing: int) -> Any:
    slots = max(old.shape[1], new.shape[1])
    result = np.full((old.shape[0], slots, *old.shape[2:]), nothing, dtype=old.dtype)
    result[:, : old.shape[1]] = old
    result[rows] = nothing
    result[rows, : new.shape[1]] = new
    return result


def _with_slots(old: Slots, new: Slots, changed: NDArray[np.bool_]) -> Slots:
    if old.shiftable.size != new.shiftable.size:
        return old
    return Slots(
        np.where(changed, new.interruptible, old.interruptible), np.where(changed, new.shiftable, old.shiftable)
    )


def _mend(state: State, safe: Projected, policy: HemsPolicy) -> Projected:
    """Stale homes, and any that the independent check still finds fault with, get the safe action."""
    faulty = faults_of(state, safe.points)
    rows = faulty | state.stale
    if not rows.any():
        return safe
    comfort, points = project(state, comfort_points(state), policy).points, safe.points
    names = ("battery_kw", "ev_kw", "hvac_kw", "pv_limit_kw", "wind_limit_kw")
    mended = {name: np.where(rows, getattr(comfort, name), getattr(points, name)) for name in names}
    run = np.where(rows[state.jobs.home], comfort.run, points.run)
    changed = safe.changed | {"STALE_HOME": state.stale, "CHECK_FAILED": faulty}
    return Projected(replace(points, **mended, run=run), changed)


def _plan_table(standing: _Standing, state: State) -> Table:
    """What the homes plan to import together, for those who plan around them: by quarters of an hour of the clock."""
    edges_ns = state.steps.edges_ns(standing.made_ns)
    first = standing.made_ns // (STEP_S * NS)
    quarters = STEP_S * NS * np.arange(first, int(edges_ns[-1]) // (STEP_S * NS) + 1)
    within = np.maximum(quarters, standing.made_ns)
    net = means_between(standing.plan.fleet_net_kw, edges_ns, within)
    columns = {"step_s": np.array([float(STEP_S)]), "net_kw": net[None, :]}
    return Table("fleet_plan", ("homes",), columns, int(quarters[0]))


def _reason(why: Reason, moment: Moment, kept: FleetLimits, missed: dict[str, float], lines: dict[str, str]) -> Reason:
    """Why, in numbers for the fleet, and a line per home and device whose state changed."""
    plan, state = moment.plan, moment.state
    step = int(state.steps.at(_one(int(moment.start_ns.min())), state.source_time_ns)[0])
    relaxed = {code: float((plan.relaxed[code] > floor).sum()) for code, floor in RELAXATION_FLOORS.items()}
    numbers = {
        **why.numbers,
        "planned_net_kw": float(moment.plan_now.net_kw.sum()),
        "fleet_price_eur_per_kwh": float(plan.fleet_price[step]),
        "price_rounds": float(plan.rounds),
        "relaxed_homes": float(np.logical_or.reduce([plan.relaxed[c] > f for c, f in RELAXATION_FLOORS.items()]).sum()),
        "shed_kw": float(kept.given_kw.sum()),
        "projected_homes": float(np.logical_or.reduce(list(moment.safe.changed.values())).sum()),
        "forecast_age_s": (state.source_time_ns - state.forecast_ns) / NS if state.forecast_ns else -1.0,
    }
    numbers |= {f"{code.lower()}_homes": count for code, count in relaxed.items() if count}
    if np.isfinite(moment.cap_kw):
        numbers |= {"cap_kw": moment.cap_kw, "cap_miss_kw": missed["cap"]}
    if moment.policy.reserve_kw > 0:
        numbers |= {"reserve_miss_kw": missed["reserve"], "response_kw": kept.response_kw}
    if moment.policy.ramp_limit_kw_per_min is not None:
        numbers["ramp_miss_kw"] = missed["ramp"]
    return Reason("CAP_MISSED" if missed["cap"] > 0 else why.code, numbers, {**why.details, **lines})
