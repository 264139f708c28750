"""Decides: new plans when they are due, and each minute the set-points that follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.coordination import FleetPlan, coordinate
from xapps.hems_load.decision import Decision
from xapps.hems_load.fleet_limits import shed_to_cap
from xapps.hems_load.home_lp import HomeLp, HomePlan
from xapps.hems_load.policy import HemsPolicy, import_cap_kw
from xapps.hems_load.problems import HOURS, FleetProblems, pose_fleet
from xapps.hems_load.projection import Projected, project
from xapps.hems_load.state import NS, STEP_S, State
from xapps.hems_load.tracking import PlanNow, track

__all__ = ["Limits", "Optimizer"]

Floats = NDArray[np.float64]

CAP_MARGIN = 0.03
"""Share of a cap that is kept free in real time: the next minute differs from the last."""
MISS_TOLERANCE_KW = 0.1
"""A cap passed by no more than this counts as kept [kW]."""
_EXPLAINED_HOMES = 20


@dataclass(frozen=True)
class Limits:
    """How often to plan, and how many rounds of price coordination a plan may take."""

    plan_every_s: float = 900.0
    price_rounds: int = 6


@dataclass(frozen=True)
class _Standing:
    """The plans in force, what they were made from, and the programmes that made them."""

    programmes: tuple[HomeLp, ...]
    plan: FleetPlan
    pv_expected_kw: Floats
    start_ns: int
    policy: HemsPolicy
    forecast_ns: int
    ev_connected: Floats


class Optimizer:
    """Plans and programmes of one node. Not thread-safe; one `decide` at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._standing: _Standing | None = None
        self._dr_cap_kw: tuple[object, float] | None = None

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
        standing = self._standing
        if standing is None:  # unreachable: without one a plan is due
            raise AssertionError("a plan")
        now, step = self._plan_now(standing, state)
        cap = self._cap_kw(policy, state.time_s)
        safe = project(state, track(state, now, policy), policy)
        given = np.zeros(len(state.homes))
        if np.isfinite(cap):
            points, given = shed_to_cap(state, safe.points, cap * (1 - CAP_MARGIN), policy)
            safe = replace(safe, points=project(state, points, policy).points)
        net = safe.points.net_kw(state)
        miss = max(float(net.sum()) - cap, float(standing.plan.miss_kw[step:].max(initial=0.0)))
        reason = _reason(
            why or "FOLLOW_PLAN", state, standing.plan, step, cap_kw=cap, given=given, safe=safe, miss=miss
        )
        missed_kw = miss if miss > MISS_TOLERANCE_KW else 0.0
        plan = _plan_table(standing) if why else None
        return Decision.of(state, safe.points, reason=reason, cap_miss_kw=missed_kw, plan=plan)

    def explain(self, state: State, home: str) -> Reason:
        """What the plan in force means for one home: energies of the horizon, relaxed limits, the fleet's price.

        Raises KeyError for an unknown home.
        """
        row = state.homes.ids.index(home) if home in state.homes.ids else -1
        if row < 0 or self._standing is None:
            raise KeyError(home)
        plan, price = self._standing.plan.homes[row], self._standing.plan.price
        numbers = {
            "import_kwh": float(np.maximum(plan.net_kw, 0).sum()) * HOURS,
            "export_kwh": float(np.maximum(-plan.net_kw, 0).sum()) * HOURS,
            "battery_charge_kwh": float(np.maximum(plan.battery_kw, 0).sum()) * HOURS,
            "ev_charge_kwh": float(np.maximum(plan.ev_kw, 0).sum()) * HOURS,
            "v2g_kwh": float(np.maximum(-plan.ev_kw, 0).sum()) * HOURS,
            "heat_pump_kwh": float(plan.hvac_kw.sum()) * HOURS,
            "curtailed_kwh": float((self._standing.pv_expected_kw[row] - plan.pv_kw).sum()) * HOURS,
            "fleet_price_max_eur_per_kwh": float(price.max(initial=0.0)),
        }
        return Reason(_relaxed(plan) or "PLAN_KEPT", numbers, {"home": home, **_relaxed_details(plan)})

    # Planning -------------------------------------------------------------------------------------------------

    def _due(self, state: State, policy: HemsPolicy) -> str:
        standing = self._standing
        if standing is None or len(standing.programmes) != len(state.homes):
            return "FIRST_PLAN"
        if standing.policy is not policy and standing.policy != policy:
            return "POLICY_CHANGED"
        if state.forecast_ns > standing.forecast_ns:
            return "NEW_FORECAST"
        age_s = (state.source_time_ns - standing.start_ns) / NS
        return "PLAN_AGED" if age_s >= self._limits.plan_every_s or age_s < 0 else ""

    def _plan(self, state: State, policy: HemsPolicy, may_go_on: Callable[[], bool]) -> None:
        problems = pose_fleet(state, policy)
        old = self._standing
        steps = problems.steps
        if old is None or len(old.programmes) != len(state.homes) or old.programmes[0].steps != steps:
            programmes = tuple(
                HomeLp(steps, has_battery=p.has_battery, has_ev=p.has_ev, has_heat_pump=p.has_heat_pump)
                for p in problems.homes
            )
            price = np.zeros(steps)
        else:
            programmes = old.programmes
            moved = int((state.source_time_ns - old.start_ns) // (STEP_S * NS))
            price = old.plan.price[np.clip(np.arange(steps) + moved, 0, steps - 1)]
        for programme, problem in zip(programmes, problems.homes, strict=True):
            programme.pose(problem)
        self._note_dr_reference(state, policy)
        times = state.time_s + STEP_S * np.arange(steps)
        cap = np.array([self._cap_kw(policy, time_s) for time_s in times])
        plan = coordinate(programmes, cap, price, HOURS, rounds=self._limits.price_rounds, may_go_on=may_go_on)
        self._standing = _Standing(
            programmes, plan, state.horizon.pv_kw + state.horizon.wind_kw, state.source_time_ns, policy, state.forecast_ns,
            state.report["ev_connected"].copy(),
        )  # fmt: skip

    def _replan_moved_cars(self, state: State, policy: HemsPolicy) -> None:
        """New plans, at the shadow price in force, for homes whose EV came or went since their plan."""
        standing = self._standing
        if standing is None:
            return
        moved = np.flatnonzero(standing.ev_connected != state.report["ev_connected"])
        if not moved.size:
            return
        problems: FleetProblems = pose_fleet(state, policy)
        plans = list(standing.plan.homes)
        step = self._step(standing, state)
        late = np.clip(np.arange(problems.steps) + step, 0, problems.steps - 1)
        for row in moved.tolist():
            standing.programmes[row].pose(problems.homes[row])
            plan = standing.programmes[row].solve(standing.plan.price[late])
            plans[row] = _shifted(plan, step)
        self._standing = replace(
            standing,
            plan=replace(standing.plan, homes=tuple(plans)),
            ev_connected=state.report["ev_connected"].copy(),
        )

    def _note_dr_reference(self, state: State, policy: HemsPolicy) -> None:
        """Fix the cap that a demand-response event means, once: the plan before it was known, less the reduction."""
        event = policy.dr_event
        if event is None or (self._dr_cap_kw is not None and self._dr_cap_kw[0] == event):
            return
        net = self._standing.plan.net_kw if self._standing is not None else np.array([state.report["import_kw"].sum()])
        start_s = self._standing.start_ns / NS if self._standing is not None else state.time_s
        first = int(np.clip((event.start_s - start_s) // STEP_S, 0, net.size - 1))
        last = int(np.clip((event.end_s - start_s) // STEP_S, first + 1, net.size)) if net.size > 1 else 1
        self._dr_cap_kw = (event, max(float(net[first:last].mean()) - event.reduction_kw, 0.0))

    def _cap_kw(self, policy: HemsPolicy, time_s: float) -> float:
        cap, event = import_cap_kw(policy, time_s), policy.dr_event
        if event is not None and self._dr_cap_kw is not None and event.start_s <= time_s < event.end_s:
            cap = min(cap, self._dr_cap_kw[1])
        return cap

    @staticmethod
    def _step(standing: _Standing, state: State) -> int:
        last = standing.plan.price.size - 1
        return int(np.clip((state.source_time_ns - standing.start_ns) // (STEP_S * NS), 0, last))

    def _plan_now(self, standing: _Standing, state: State) -> tuple[PlanNow, int]:
        step = self._step(standing, state)
        homes = standing.plan.homes
        names = ("net_kw", "battery_kw", "ev_kw", "hvac_kw", "pv_kw")
        now = {name: np.array([getattr(plan, name)[step] for plan in homes]) for name in names}
        wind, run = state.report["wind_available_kw"], state.jobs.left_h > 0
        expected = standing.pv_expected_kw[:, step]
        now["pv_kw"] = np.where(now["pv_kw"] < expected - 0.05, np.maximum(now["pv_kw"] - wind, 0), expected)
        return PlanNow(**now, pv_expected_kw=expected, wind_kw=wind, wind_expected_kw=wind, run=run), step


def _shifted(plan: HomePlan, steps: int) -> HomePlan:
    """The plan as one that began `steps` steps earlier, so that all plans count from one start."""
    if steps == 0:
        return plan
    names = [name for name in plan.__dataclass_fields__ if isinstance(getattr(plan, name), np.ndarray)]
    late = np.clip(np.arange(plan.net_kw.size) - steps, 0, None)
    return replace(plan, **{name: getattr(plan, name)[late] for name in names})


def _relaxed(plan: HomePlan) -> str:
    """Code of the limit that a plan could not keep, the gravest first; empty where all are kept."""
    if plan.ev_short_kwh > 0.05:
        return "EV_TARGET_RELAXED"
    if plan.over_kwh > 0.01:
        return "CONTRACT_RELAXED"
    return "COMFORT_RELAXED" if plan.discomfort_k_h > 0.25 else ""


def _relaxed_details(plan: HomePlan) -> dict[str, str]:
    amounts = {"ev_short_kwh": plan.ev_short_kwh, "over_kwh": plan.over_kwh, "discomfort_k_h": plan.discomfort_k_h}
    return {name: f"{value:.2f}" for name, value in amounts.items() if value > 0.01}


def _plan_table(standing: _Standing) -> Table:
    """What the homes plan to import together, for those who plan around them."""
    columns = {"step_s": np.array([float(STEP_S)]), "net_kw": standing.plan.net_kw[None, :]}
    return Table("fleet_plan", ("homes",), columns, standing.start_ns)


def _reason(
    code: str, state: State, plan: FleetPlan, step: int, *, cap_kw: float, given: Floats, safe: Projected, miss: float
) -> Reason:
    """Why, with one line per home whose plan relaxed a limit, that shed power, or whose set-point was changed."""
    relaxed = {name: _relaxed(home) for name, home in zip(state.homes.ids, plan.homes, strict=True)}
    numbers = {
        "planned_net_kw": float(plan.net_kw[step]),
        "fleet_price_eur_per_kwh": float(plan.price[step]),
        "price_rounds": float(plan.rounds),
        "relaxed_homes": float(sum(bool(value) for value in relaxed.values())),
        "shed_kw": float(given.sum()),
        "projected_homes": float(np.logical_or.reduce(list(safe.changed.values())).sum()),
        "forecast_age_s": (state.source_time_ns - state.forecast_ns) / NS if state.forecast_ns else -1.0,
    }
    if np.isfinite(cap_kw):
        numbers |= {"cap_kw": cap_kw, "cap_miss_kw": miss}
    details: dict[str, str] = {}
    for row, name in enumerate(state.homes.ids):
        words = [relaxed[name]] if relaxed[name] else []
        words += [f"{key}={value}" for key, value in _relaxed_details(plan.homes[row]).items() if relaxed[name]]
        words += [f"SHED {given[row]:.2f} kW"] if given[row] > 0.01 else []
        words += [kind for kind, homes in safe.changed.items() if homes[row]]
        if words and len(details) < _EXPLAINED_HOMES:
            details[name] = " ".join(words)
    return Reason("CAP_MISSED" if miss > MISS_TOLERANCE_KW else code, numbers, details)
