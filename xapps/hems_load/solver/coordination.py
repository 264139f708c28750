"""A cap on what all homes import together, kept by one price that all homes see.

Each home answers a price series with its best plan. Whole-fleet plans at several prices are mixed by a small master
programme so that the sum respects the cap at least cost; its duals are the next price (Dantzig-Wolfe decomposition
with one convexity row). A mix is feasible for every home, since what a home can do is convex once its runs are placed.
Because all homes mix with the same weights, equal homes give equally, and every home gives the same share of the way
between its own answers. The price is hot-started from cycle to cycle; after any round there is a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import highspy
import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.solver.fleet import Effort, WarmStart, project_plan, solve_fleet
from xapps.hems_load.solver.runs import run_load

__all__ = ["MISS_EUR_PER_KWH", "coordinate_fleet"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MISS_EUR_PER_KWH = 2.0
"""Price of each kWh beyond the cap: above any tariff, below a stranded EV, about that of 3 K of discomfort."""
FIRST_PRICE = 0.15
"""First guess of the shadow price where the free plans pass the cap [EUR/kWh]: the usual spread of a day's tariffs."""
KEPT = 1e-3
"""A cap passed by no more than this share of it counts as kept."""
SPREAD = 0.005
"""Rise of a home's price with its own import where there is a cap [EUR/kWh per kW]: homes that all see the same cheap
quarter of an hour share it, and the fleet's answer to a price has no jumps."""
TEAMS = 192
"""Teams in which homes mix: equal homes give equally, and unlike ones need not."""


def coordinate_fleet(
    problem: FleetProblem,
    cap_kw: Floats,
    warm: WarmStart | None = None,
    *,
    shift_steps: int = 0,
    rounds: int = 3,
    may_go_on: Callable[[], bool] = lambda: True,
    effort: Effort | None = None,
) -> tuple[FleetPlan, WarmStart]:
    """Plans whose net imports together stay within `cap_kw` (T,) [kW], infinite where there is no cap.

    Solves once without a price, then at most `rounds` times at prices while `may_go_on`, the first that of `warm`.
    `miss_kw` of the plan tells what the cap still misses. Against: one programme for all homes, tests/unit.
    """
    effort = effort or Effort()
    capped = np.isfinite(cap_kw)
    price = _known_price(warm, problem.steps, shift_steps) * capped
    plan, free = solve_fleet(replace(problem, fleet_price=None), warm, shift_steps=shift_steps, effort=effort)
    over = _over(plan.fleet_net_kw, cap_kw)
    if not over.any():
        return plan, free
    fixed = replace(_with_runs_placed(problem, plan), fleet_curvature=SPREAD * capped)
    plans, last = [plan], free
    target = np.asarray(0.5 * price + FIRST_PRICE * over, dtype=np.float64)
    team = _teams(plan)
    weights, taken = np.ones((1, problem.homes)), 0
    while taken < rounds and may_go_on():
        answer, last = solve_fleet(replace(fixed, fleet_price=target), last, effort=effort)
        plans.append(answer)
        taken += 1
        shares, price = _mix(plans, team, cap_kw, problem.hours)
        weights = shares[:, team]
        if _settled(plans, weights, target, cap_kw, problem.hours):
            break
        target = price
    mixed = _mixed(plans, weights)
    final = project_plan(fixed, replace(mixed, shiftable_start=_none(plan)), threads=effort.threads)
    miss = np.where(_over(final.fleet_net_kw, cap_kw), final.fleet_net_kw - cap_kw, 0.0)
    done = replace(
        final, shiftable_start=plan.shiftable_start, shiftable_kw=plan.shiftable_kw, fleet_price=price, miss_kw=miss,
        rounds=taken, marginal_price=mixed.marginal_price,
    )  # fmt: skip
    return done, replace(free, fleet_price=price)


def _known_price(warm: WarmStart | None, steps: int, shift: int) -> Floats:
    if warm is None or warm.fleet_price.size != steps:
        return np.zeros(steps)
    return np.asarray(warm.fleet_price[np.minimum(np.arange(steps) + shift, steps - 1)])


def _over(net_kw: Floats, cap_kw: Floats) -> NDArray[np.bool_]:
    return np.asarray(net_kw > cap_kw + KEPT * np.abs(cap_kw))


def _teams(plan: FleetPlan) -> Ints:
    """(N,) team of each home: those that import most at the same time, and charge and heat alike, are together."""
    homes = plan.net_kw.shape[0]
    kind = (np.abs(plan.ev_kw).max(axis=1) > 0) + 2 * (np.abs(plan.battery_kw).max(axis=1) > 0)
    order = np.lexsort((plan.net_kw.max(axis=1), plan.net_kw.argmax(axis=1), kind))
    team = np.empty(homes, dtype=np.int64)
    team[order] = np.arange(homes) * min(TEAMS, homes) // homes
    return team


def _none(plan: FleetPlan) -> NDArray[np.int64]:
    return np.full(plan.shiftable_start.shape, -1, dtype=np.int64)


def _with_runs_placed(problem: FleetProblem, plan: FleetPlan) -> FleetProblem:
    """The same problem with each run's start fixed as in `plan`: what is left is convex."""
    runs = problem.shiftable
    if runs is None:
        return problem
    load = problem.meter.load_kw + run_load(runs, problem.hours, plan.shiftable_start)
    idle = replace(runs, power_kw=np.zeros(runs.power_kw.shape))
    return replace(problem, meter=replace(problem.meter, load_kw=load), shiftable=idle)


def _settled(plans: list[FleetPlan], weights: Floats, target: Floats, cap_kw: Floats, hours: Floats) -> bool:
    """Whether the cap is kept and the newest answer shows that no price does better by a thousandth of the cost."""
    net = np.asarray(sum(weight @ plan.net_kw for weight, plan in zip(weights, plans, strict=True)))
    if _over(net, cap_kw).any():
        return False
    cost = float(sum(weight @ plan.costs.total for weight, plan in zip(weights, plans, strict=True)))
    room = np.where(np.isfinite(cap_kw), cap_kw, 0.0)
    bound = float(plans[-1].costs.total.sum() + hours * target @ (plans[-1].fleet_net_kw - room))
    return cost - bound <= 1e-3 * abs(cost)


def _mix(plans: list[FleetPlan], team: Ints, cap_kw: Floats, hours: Floats) -> tuple[Floats, Floats]:
    """Weights (K, teams; each team's sum 1) that keep the cap at least cost, and its shadow price (T,) [EUR/kWh]."""
    capped = np.flatnonzero(np.isfinite(cap_kw))
    number, caps, teams = len(plans), capped.size, int(team.max()) + 1
    scale = max(float(np.abs(cap_kw[capped]).max()), 1.0)
    net, cost = np.zeros((number, teams, caps)), np.zeros((number, teams))
    for k, plan in enumerate(plans):
        np.add.at(net[k], team, plan.net_kw[:, capped] / scale)
        np.add.at(cost[k], team, plan.costs.total / scale)
    columns = number * teams
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns + caps, teams + caps
    model.col_cost_ = np.concatenate([cost.ravel(), hours[capped] * MISS_EUR_PER_KWH])
    model.col_lower_, model.col_upper_ = np.zeros(columns + caps), np.full(columns + caps, highspy.kHighsInf)
    model.row_lower_ = np.concatenate([np.ones(teams), np.full(caps, -highspy.kHighsInf)])
    model.row_upper_ = np.concatenate([np.ones(teams), cap_kw[capped] / scale])
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.num_col_, matrix.num_row_ = columns + caps, teams + caps
    starts = np.arange(columns + 1) * (caps + 1)
    own = np.tile(np.arange(teams), number)[:, None]
    rows = np.hstack([own, np.broadcast_to(teams + np.arange(caps), (columns, caps))])
    matrix.start_ = np.concatenate([starts, starts[-1] + 1 + np.arange(caps)]).astype(np.int32)
    matrix.index_ = np.concatenate([rows.ravel(), teams + np.arange(caps)]).astype(np.int32)
    values = np.hstack([np.ones((columns, 1)), net.reshape(columns, caps)])
    matrix.value_ = np.concatenate([values.ravel(), -np.ones(caps)])
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("threads", 1)
    solver.passModel(model)
    solver.run()
    solution = solver.getSolution()
    weights = np.maximum(np.array(solution.col_value)[:columns].reshape(number, teams), 0.0)
    price = np.zeros(cap_kw.size)
    price[capped] = np.maximum(-np.array(solution.row_dual)[teams:], 0.0) / hours[capped]
    return weights / weights.sum(axis=0), price


def _mixed(plans: list[FleetPlan], weights: Floats) -> FleetPlan:
    """The plan in which each home follows each of `plans` to its weight (K, N), before it is settled."""

    def mean(name: str) -> Floats:
        parts = [getattr(plan, name) for plan in plans]
        shape = (-1,) + (1,) * (parts[0].ndim - 1)
        return np.asarray(sum(weight.reshape(shape) * part for weight, part in zip(weights, parts, strict=True)))

    return replace(
        plans[0], battery_kw=mean("battery_kw"), ev_kw=mean("ev_kw"), hvac_kw=mean("hvac_kw"),
        appliance_kw=mean("appliance_kw"), marginal_price=mean("marginal_price"),
    )  # fmt: skip
