"""A cap on what all homes import together, and a demand-response event, kept by one price for all.

The cap is a share of the free plans' peak; during the event the homes are to import a further share less than they
would have. Three cycles a quarter of an hour apart, the price hot-started; `cap_violation_pct` is the worst step of the
third. `fairness` is Jain's index over the homes' curtailed shares: what a home gives during the event over what it
would give at 1 EUR/kWh. `joint_gap_pct` is the cost over one exact programme for all homes of a smaller fleet (HiGHS),
against that programme's cost, at least 1 EUR per home.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.city import City
from benchmarks.home_programme import joint_cost
from benchmarks.machine import describe_machine, parser, write_result
from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.solver import Effort, WarmStart, coordinate_fleet, solve_fleet, warm_up

Floats = NDArray[np.float64]

SEED = 202_612
CAP_SHARE, EVENT_SHARE = 0.8, 0.8
"""Cap over the free peak; import during the event over the free import then."""
EVENT = slice(4, 12)
PUSH_EUR_PER_KWH = 1.0
LEAST_KWH = 0.1
"""Homes that can give less than this during the event have no share."""


def limits_of(net_kw: Floats) -> Floats:
    """(T,) cap and event from the free plans' net import (T,)."""
    cap = np.full(net_kw.size, CAP_SHARE * net_kw.max())
    cap[EVENT] = np.minimum(cap[EVENT], EVENT_SHARE * net_kw[EVENT])
    return cap


def jain(share: Floats) -> float:
    """Jain's index of `share` (N,): 1 where all are equal, 1/N where one has all."""
    return float(share.sum() ** 2 / (share.size * (share**2).sum()))


def fairness(problem: FleetProblem, free: FleetPlan, plan: FleetPlan, effort: Effort) -> tuple[float, float, int]:
    """Jain's index over curtailed shares, their mean, and the number of homes that have one."""
    price = np.zeros(problem.steps)
    price[EVENT] = PUSH_EUR_PER_KWH
    pushed, _ = solve_fleet(replace(problem, fleet_price=price), effort=effort)
    hours = problem.hours[EVENT]
    potential = ((free.net_kw - pushed.net_kw)[:, EVENT] * hours).sum(axis=1)
    given = ((free.net_kw - plan.net_kw)[:, EVENT] * hours).sum(axis=1)
    able = potential > LEAST_KWH
    share = np.clip(given[able] / potential[able], 0, None)
    return jain(share), float(share.mean()), int(able.sum())


def violation_pct(plan: FleetPlan, cap_kw: Floats) -> float:
    """Worst step's import beyond the cap, in percent of it."""
    return float(100 * np.maximum(plan.fleet_net_kw / cap_kw - 1, 0).max())


def run_cycles(homes: int, cycles: int, effort: Effort) -> tuple[dict[str, float], FleetProblem, FleetPlan, Floats]:
    """Figures of `cycles` coordinated cycles; last problem, plan and cap."""
    city = City(homes, SEED)
    problem = city.problem(0)
    cap = limits_of(solve_fleet(problem, effort=effort)[0].fleet_net_kw)
    warm: WarmStart | None = None
    figures: dict[str, float] = {}
    for cycle in range(cycles):
        start = time.perf_counter()
        plan, warm = coordinate_fleet(problem, cap, warm, shift_steps=1, effort=effort)
        figures[f"cycle_{cycle + 1}_s"] = time.perf_counter() - start
        figures[f"cap_violation_pct_cycle_{cycle + 1}"] = violation_pct(plan, cap)
        figures[f"rounds_cycle_{cycle + 1}"] = plan.rounds
        last = problem
        city.live(problem, plan)
        problem = city.problem(cycle + 1)
        cap = np.concatenate([cap[1:], cap[-1:]]) if cycle + 1 < cycles else cap
    return figures, last, plan, cap


def joint_gap_pct(homes: int, effort: Effort) -> tuple[float, float]:
    """Excess over the exact joint programme after three cycles at one instant [%], and that programme's cost [EUR]."""
    problem = City(homes, SEED + 1).problem(0)
    cap = limits_of(solve_fleet(problem, effort=effort)[0].fleet_net_kw)
    warm: WarmStart | None = None
    for _ in range(3):
        plan, warm = coordinate_fleet(problem, cap, warm, effort=effort)
    exact = joint_cost(problem, problem.meter.load_kw + plan.shiftable_kw, cap)
    return 100 * (plan.costs.total.sum() - exact) / max(abs(exact), homes), exact


def main() -> None:
    """Command line."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--homes", type=int, default=10_000)
    arguments.add_argument("--joint", type=int, default=200)
    options = arguments.parse_args()
    effort = Effort(threads=os.cpu_count() or 1)
    warm_up()
    figures, problem, plan, cap = run_cycles(options.homes, 3, effort)
    free, _ = solve_fleet(problem, effort=effort)
    index, mean_share, able = fairness(problem, free, plan, effort)
    gap, exact = joint_gap_pct(options.joint, effort)
    figures |= {
        "homes": options.homes, "cap_violation_pct": figures["cap_violation_pct_cycle_3"], "fairness": index,
        "curtailed_share_mean": mean_share, "homes_with_a_share": able, "joint_homes": options.joint,
        "joint_gap_pct": gap, "free_violation_pct": violation_pct(free, cap),
    }  # fmt: skip
    baseline = {"what": "one exact programme for all homes and the cap, HiGHS", "joint_cost_eur": exact}
    write_result(options.json, figures, baseline, describe_machine())


if __name__ == "__main__":
    main()
