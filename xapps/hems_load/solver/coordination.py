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

MISS_EUR_PER_KWH = 2.0
"""Price of each kWh beyond the cap: above any tariff, below a stranded EV, about that of 3 K of discomfort."""
FIRST_PRICE = 0.15
"""First guess of the shadow price where the free plans pass the cap [EUR/kWh]: the usual spread of a day's tariffs."""
KEPT = 1e-3
"""A cap passed by no more than this share of it counts as kept."""
DAMPING = 0.5
"""Weight of the master's new dual in the next price; duals of a young master swing."""


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

    Solves once at the price known (from `warm`; none at first), then at most `rounds` times more while `may_go_on`.
    `miss_kw` of the plan tells what the cap still misses. Against: one programme for all homes, tests/unit.
    """
    effort = effort or Effort()
    capped = np.isfinite(cap_kw)
    price = _known_price(warm, problem.steps, shift_steps) * capped
    plan, warm = solve_fleet(replace(problem, fleet_price=price), warm, shift_steps=shift_steps, effort=effort)
    plans, prices = [plan], [price]
    over = _over(plan.fleet_net_kw, cap_kw)
    if not (over.any() or price.any()):
        return plan, warm
    fixed = _with_runs_placed(problem, plan)
    target = price + FIRST_PRICE * over if over.any() else 0.5 * price
    weights, taken = np.ones(1), 0
    last = warm
    while taken < rounds and may_go_on():
        answer, last = solve_fleet(replace(fixed, fleet_price=target), last, effort=effort)
        plans.append(answer)
        prices.append(target)
        taken += 1
        weights, dual = _mix(plans, cap_kw, problem.hours)
        if _settled(plans, weights, target, cap_kw, problem.hours):
            price = dual
            break
        price, target = dual, DAMPING * dual + (1 - DAMPING) * target
    mixed = _mixed(plans, weights)
    final = project_plan(fixed, replace(mixed, shiftable_start=_none(plan)), threads=effort.threads)
    miss = np.where(_over(final.fleet_net_kw, cap_kw), final.fleet_net_kw - cap_kw, 0.0)
    done = replace(
        final, shiftable_start=plan.shiftable_start, shiftable_kw=plan.shiftable_kw, fleet_price=price, miss_kw=miss,
        rounds=taken, marginal_price=mixed.marginal_price,
    )  # fmt: skip
    return done, replace(last, fleet_price=price)


def _known_price(warm: WarmStart | None, steps: int, shift: int) -> Floats:
    if warm is None or warm.fleet_price.size != steps:
        return np.zeros(steps)
    return np.asarray(warm.fleet_price[np.minimum(np.arange(steps) + shift, steps - 1)])


def _over(net_kw: Floats, cap_kw: Floats) -> NDArray[np.bool_]:
    return np.asarray(net_kw > cap_kw + KEPT * np.abs(cap_kw))


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
    net = np.tensordot(weights, np.array([plan.fleet_net_kw for plan in plans]), 1)
    if _over(net, cap_kw).any():
        return False
    costs = np.array([plan.costs.total.sum() for plan in plans])
    room = np.where(np.isfinite(cap_kw), cap_kw, 0.0)
    bound = costs[-1] + float(hours * target @ (plans[-1].fleet_net_kw - room))
    return bool(weights @ costs - bound <= 1e-3 * abs(float(weights @ costs)))


def _mix(plans: list[FleetPlan], cap_kw: Floats, hours: Floats) -> tuple[Floats, Floats]:
    """Weights of the plans (sum 1) that keep the cap at least cost, and the cap's shadow price (T,) [EUR/kWh]."""
    capped = np.flatnonzero(np.isfinite(cap_kw))
    number, caps = len(plans), capped.size
    net = np.array([plan.fleet_net_kw[capped] for plan in plans])
    scale = max(float(np.abs(cap_kw[capped]).max()), 1.0)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = number + caps, 1 + caps
    costs = np.array([plan.costs.total.sum() for plan in plans]) / scale
    model.col_cost_ = np.concatenate([costs, hours[capped] * MISS_EUR_PER_KWH])
    model.col_lower_, model.col_upper_ = np.zeros(number + caps), np.full(number + caps, highspy.kHighsInf)
    model.row_lower_ = np.concatenate([[1.0], np.full(caps, -highspy.kHighsInf)])
    model.row_upper_ = np.concatenate([[1.0], cap_kw[capped] / scale])
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.num_col_, matrix.num_row_ = number + caps, 1 + caps
    starts = np.arange(number + 1) * (caps + 1)
    matrix.start_ = np.concatenate([starts, starts[-1] + 1 + np.arange(caps)]).astype(np.int32)
    matrix.index_ = np.concatenate([np.tile(np.arange(caps + 1), number), 1 + np.arange(caps)]).astype(np.int32)
    matrix.value_ = np.concatenate([np.column_stack([np.ones(number), net / scale]).ravel(), -np.ones(caps)])
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("threads", 1)
    solver.passModel(model)
    solver.run()
    solution = solver.getSolution()
    weights = np.maximum(np.array(solution.col_value)[:number], 0.0)
    price = np.zeros(cap_kw.size)
    price[capped] = np.maximum(-np.array(solution.row_dual)[1:], 0.0) / hours[capped]
    return weights / weights.sum(), price


def _mixed(plans: list[FleetPlan], weights: Floats) -> FleetPlan:
    """The plan that follows each of `plans` to its weight, before it is settled."""
    names = ("battery_kw", "ev_kw", "hvac_kw", "appliance_kw", "marginal_price")
    mean = {name: sum(w * getattr(plan, name) for w, plan in zip(weights, plans, strict=True)) for name in names}
    return replace(plans[0], **mean)
