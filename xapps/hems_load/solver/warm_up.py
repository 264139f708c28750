"""Machine code and memory before the first cycle: a small fleet of every kind, solved once cold and once warm."""

from __future__ import annotations

import numpy as np

from ric.heap import keep_freed_memory
from xapps.hems_load.fleet_problem import Appliances, Battery, Ev, FleetProblem, HeatPump, Meter, Shiftable
from xapps.hems_load.solver.fleet import Effort, project_plan, solve_fleet

__all__ = ["warm_up"]


OCTETS_PER_HOME = 110_000
"""Of plans, answers and their starts over some 100 steps, under a cap."""


def warm_up(homes: int = 0) -> None:
    """Compile, or load from disk, what `solve_fleet` and `project_plan` run; keep freed memory for the next cycle.

    Tens of seconds once, a second afterwards. With `homes`, the memory for so many is had from the kernel now, which
    takes as long as two cycles: else the first three cycles wait for it.
    """
    if keep_freed_memory() and homes:
        np.zeros(homes * OCTETS_PER_HOME // 8).fill(0.0)
    steps, one = 8, np.ones(2)
    flat = np.ones((2, steps))
    meter = Meter(flat, flat, 0 * flat, 0.3 * flat, 0.1 * flat, 5 * one, 3 * flat)
    battery = Battery(one, 4 * one, 0 * one, one, one, 0.9 * one, 0.9 * one, 0.01 * one, 0.1 * one)
    ev = Ev(
        5 * one, 20 * one, 3 * one, one, 0.9 * one, 0.9 * one, 0.05 * one, 0.1 * one, flat, 0 * flat, 0 * flat, 0 * flat
    )
    pump = HeatPump(one, 20 * one, 0.98 * flat, 0.3 * flat, 0.3 * flat, 19 * flat, 23 * flat, flat, 0.1 * one)
    first, last = np.zeros((2, 1), dtype=np.int64), np.full((2, 1), 4)
    appliances = Appliances(np.ones((2, 1)), 0.5 * np.ones((2, 1)), first, last)
    runs = Shiftable(np.ones((2, 1)), 0.5 * np.ones((2, 1)), first, last)
    problem = FleetProblem(np.full(steps, 0.25), meter, battery, ev, pump, appliances, runs)
    _, warm = solve_fleet(problem, effort=Effort(threads=1))
    plan, _ = solve_fleet(problem, warm, shift_steps=1, effort=Effort(threads=1))
    project_plan(problem, plan, threads=1)
