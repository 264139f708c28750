"""Decides: new plans when they are due, and at each report the set-points that follow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.capped_plans import Coordination, plan_under_caps, with_rows
from xapps.hems_load.caps import Cap, Capped, Caps, cap_key, capped_of
from xapps.hems_load.decision import Decision, Told
from xapps.hems_load.explain import Moment
from xapps.hems_load.fallback import comfort_points
from xapps.hems_load.fleet_limits import FleetLimits, keep_fleet_limits
from xapps.hems_load.fleet_problem import RELAXATION_FLOORS, FleetPlan, FleetProblem
from xapps.hems_load.horizon import NS, STEP_S, means_between
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import Slots, pose_fleet, slots_of
from xapps.hems_load.projection import Projected, faults_of, project
from xapps.hems_load.solver import Effort, WarmStart, solve_fleet
from xapps.hems_load.solver.regrid import regrid
from xapps.hems_load.state import State
from xapps.hems_load.tracking import PlanNow, track

__all__ = ["Limits", "Optimizer", "SharedPlanner"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_GROUPS: Mapping[str, HemsPolicy] = {}
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
    warm: WarmStart | None
    """None of a plan that was made in shards."""
    made_ns: int
    start_ns: Ints
    renewable_kw: tuple[Floats, Floats]
    """(N, T) PV and wind that the plan expects."""
    capped: tuple[Capped, ...]
    caps: Caps
    missed_kw: Mapping[str, Floats]
    """By name of the cap (T,): what the plan misses of it."""
    price: Floats
    """(T,) or (N, T) what each home saw beside its tariff [EUR/kWh]."""
    forecast_ns: int
    ev_connected: Floats
    ids: tuple[str, ...]
    job_ids: tuple[str, ...]
    slots: Slots


class SharedPlanner(Protocol):
    """Shards of homes in other processes."""

    def plan(self, state: State, problem: FleetProblem, cap_kw: Floats, options: Mapping[str, Any]) -> FleetPlan | None:
        """Plans of all homes of `state` under `cap_kw` (T,), with options of `coordinate_shards`.

        None where there are no shards now. Raises TwinRicError SOLVE-FAILED where one goes while it plans.
        """
        ...


class Optimizer:
    """Plans of one node. One `decide` at a time; `follow` and `adopt` may be called meanwhile, from another thread.

    A new plan is in force once it is made, also where its cycle was late: it is the next decision that begins with it.
    What has been told goes on only with decisions that were acted on: `adopt` them.
    """

    def __init__(self, limits: Limits, shared: SharedPlanner | None = None) -> None:
        self._limits, self._shared = limits, shared
        self._standing: _Standing | None = None
        self._told = Told()

    @property
    def plan(self) -> FleetPlan | None:
        """The plan in force."""
        return None if self._standing is None else self._standing.plan

    def decide(
        self,
        state: State,
        policy: HemsPolicy,
        may_go_on: Callable[[float], bool] = lambda _: True,
        groups: Mapping[str, HemsPolicy] = NO_GROUPS,
    ) -> Decision:
        """Set-points for all homes of `state` under its `policy`, and what policies of its own ask of each group.

        Plans anew when the plan is `plan_every_s` old, when policy or forecast changed, for single homes when their EV
        came or went; otherwise follows the plan in force. Raises TwinRicError SOLVE-FAILED.
        """
        capped, standing = capped_of(state, policy, groups), self._standing
        why = self._due(state, capped)
        if why or standing is None:
            standing = self._planned(state, capped, may_go_on)
        else:
            standing = _with_moved_cars(standing, state, policy)
        self._standing = standing
        return self._follow(standing, state, capped, Reason(why or "FOLLOW_PLAN"))

    def adopt(self, decision: Decision) -> None:
        """Take on what `decision` has told, now that it is acted on."""
        if decision.told is not None:
            self._told = decision.told

    def follow(
        self, state: State, policy: HemsPolicy, why: Reason, groups: Mapping[str, HemsPolicy] = NO_GROUPS
    ) -> Decision | None:
        """Set-points from the last plan, shifted to now, where no new one can be had; None without one that reaches
        until now.
        """
        standing = self._standing
        if standing is None or standing.ids != state.homes.ids:
            return None
        age_s = (state.source_time_ns - standing.made_ns) / NS
        if not 0 <= age_s < 3600 * state.steps.edges_h(standing.made_ns)[-1]:
            return None
        capped = capped_of(state, policy, groups)
        return self._follow(standing, state, capped, replace(why, numbers={**why.numbers, "plan_age_s": age_s}))

    # Planning -------------------------------------------------------------------------------------------------

    def _due(self, state: State, capped: Sequence[Capped]) -> str:
        standing = self._standing
        if standing is None or standing.ids != state.homes.ids:
            return "FIRST_PLAN"
        if [homes.asks for homes in standing.capped] != [homes.asks for homes in capped]:
            return "POLICY_CHANGED"
        if state.forecast_ns > standing.forecast_ns:
            return "NEW_FORECAST"
        age_s = (state.source_time_ns - standing.made_ns) / NS
        return "PLAN_AGED" if age_s >= self._limits.plan_every_s or age_s < 0 else ""

    def _planned(self, state: State, capped: tuple[Capped, ...], may_go_on: Callable[[float], bool]) -> _Standing:
        problem, old = pose_fleet(state, capped[-1].policy), self._standing
        known = _events_noted(old, state, capped)
        caps = tuple(known.at(homes, state.time_s + 3600 * state.edges_h[:-1]) for homes in capped)
        elsewhere = None if self._shared is None else partial(self._shared.plan, state)
        how = Coordination(self._limits.price_rounds, may_go_on, Effort(threads=self._limits.threads), elsewhere)
        plan, warm, price = plan_under_caps(problem, caps, _warm_start(old, state), how)
        number = len(state.homes)
        return _Standing(
            plan=plan, warm=warm, made_ns=state.source_time_ns, start_ns=np.full(number, state.source_time_ns),
            renewable_kw=(state.horizon.pv_kw, state.horizon.wind_kw), capped=capped, caps=known, price=price,
            missed_kw={cap.name: np.where(cap.is_over(plan.net_kw), cap.over_kw(plan.net_kw), 0.0) for cap in caps},
            forecast_ns=state.forecast_ns,
            ev_connected=state.report["ev_connected"].copy(), ids=state.homes.ids, job_ids=state.jobs.ids,
            slots=slots_of(state.jobs),
        )  # fmt: skip

    # Following ------------------------------------------------------------------------------------------------

    def _follow(self, standing: _Standing, state: State, capped: Sequence[Capped], why: Reason) -> Decision:
        now, policy, told = _plan_now(standing, state), capped[-1].policy, self._told
        caps = tuple(standing.caps.at(homes, state.time_s) for homes in capped)
        age_s = 60.0 if not told.time_ns else (state.source_time_ns - told.time_ns) / NS
        safe = project(state, track(state, now, policy), policy)
        held = tuple(replace(cap, kw=cap.kw * (1 - CAP_MARGIN)) for cap in caps)
        kept = keep_fleet_limits(state, safe.points, held, policy, age_s)
        safe = replace(safe, points=project(state, kept.points, policy).points)
        safe = _mend(state, safe, policy)
        missed = {"ramp": kept.ramp_miss_kw, "reserve": kept.reserve_miss_kw}
        missed |= _missed_caps(standing, caps, safe.points.net_kw(state), state)
        missed = {name: value if value > MISS_TOLERANCE_KW else 0.0 for name, value in missed.items()}
        moment = Moment(state, policy, standing.plan, standing.start_ns, now, safe, kept.given_kw, caps)
        if self._shared is not None:
            why = replace(why, numbers={**why.numbers, "planned_in_shards": float(standing.warm is None)})
        lines, explainer = told.explainer.lines(moment)
        reason = _reason(why, moment, kept, missed, lines)
        plan = _plan_table(standing, state) if standing.made_ns == state.source_time_ns else None
        told = Told(explainer, state.source_time_ns)
        return Decision.of(state, safe.points, reason=reason, missed_kw=missed, plan=plan, told=told)


def _with_moved_cars(standing: _Standing, state: State, policy: HemsPolicy) -> _Standing:
    """New plans, at the shadow price in force, for homes whose EV came or went since their plan."""
    moved = np.flatnonzero(standing.ev_connected != state.report["ev_connected"])
    if not moved.size:
        return standing
    problem = pose_fleet(state, policy)
    begins_ns = state.steps.edges_ns(state.source_time_ns)[:-1]
    then = [int(state.steps.at(_one(standing.made_ns), int(begin_ns))[0]) for begin_ns in begins_ns]
    problem = replace(problem, fleet_price=standing.price[..., then])
    fresh, _ = solve_fleet(problem.take(moved), effort=Effort(threads=1))
    start_ns = standing.start_ns.copy()
    start_ns[moved] = state.source_time_ns
    renewable = []
    for old, new in zip(standing.renewable_kw, (state.horizon.pv_kw, state.horizon.wind_kw), strict=True):
        renewable.append(old.copy())
        renewable[-1][moved] = new[moved]
    return replace(
        standing,
        plan=with_rows(standing.plan, moved, fresh),
        start_ns=start_ns,
        renewable_kw=(renewable[0], renewable[1]),
        ev_connected=state.report["ev_connected"].copy(),
        slots=_with_slots(standing.slots, slots_of(state.jobs), np.isin(state.jobs.home, moved)),
    )


def _events_noted(standing: _Standing | None, state: State, capped: Sequence[Capped]) -> Caps:
    """Let new events count from the plan that stands; without one, from what is imported now."""
    caps = Caps() if standing is None else standing.caps
    for homes in capped:
        if standing is None or standing.ids != state.homes.ids:
            now_s = np.array([state.time_s, state.time_s + 1])
            caps = caps.noted(homes, now_s, state.report["import_kw"][:, None])
        else:
            edges_s = state.steps.edges_ns(standing.made_ns) / NS
            caps = caps.noted(homes, edges_s, standing.plan.net_kw)
    return caps


def _warm_start(standing: _Standing | None, state: State) -> WarmStart | None:
    """The last solution, as seen from the steps of now; None for other homes."""
    if standing is None or standing.warm is None or standing.ids != state.homes.ids:
        return None
    late_h = (state.source_time_ns - standing.made_ns) / (3600 * NS)
    return regrid(standing.warm, state.steps.edges_h(standing.made_ns), state.edges_h + late_h)


def _missed_caps(standing: _Standing, caps: Sequence[Cap], net_kw: Floats, state: State) -> dict[str, float]:
    """By how much each cap is missed, now or as planned [kW]: "cap" of all homes, "cap/NAME" of a group."""
    step = int(state.steps.at(_one(standing.made_ns), state.source_time_ns)[0])
    return {
        cap_key(cap.name): max(float(cap.over_kw(net_kw)), float(standing.missed_kw[cap.name][step:].max(initial=0.0)))
        for cap in caps
        if cap.name in standing.missed_kw
    }


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
    for cap in moment.caps:
        prefix, key = f"{cap.name}/" if cap.name else "", cap_key(cap.name)
        if np.isfinite(cap.kw):
            numbers |= {f"{prefix}cap_kw": float(cap.kw), f"{prefix}cap_miss_kw": missed.get(key, 0.0)}
    if moment.policy.reserve_kw > 0:
        numbers |= {"reserve_miss_kw": missed["reserve"], "response_kw": kept.response_kw}
    if moment.policy.ramp_limit_kw_per_min is not None:
        numbers["ramp_miss_kw"] = missed["ramp"]
    over = any(missed.get(cap_key(cap.name), 0.0) > 0 for cap in moment.caps)
    return Reason("CAP_MISSED" if over else why.code, numbers, {**why.details, **lines})
