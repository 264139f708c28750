"""Starts of runs that cannot be interrupted: the cheapest of all allowed at the home's own marginal prices.

`edges` (T + 1,) [h] is when the steps begin, and when the last one ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import Shiftable
from xapps.hems_load.solver.compiled import compiled

__all__ = ["add_run", "cheapest_start", "run_load", "smear_run"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def cheapest_start(edges: Floats, price: Floats, duration: float, first: int, last: int) -> int:
    """Step in which a run of `duration` [h] starts, at `price` (T,) [EUR/kWh].

    A window that closed before the horizon begins, or after which a run would pass the horizon's end, starts the run at
    the first step that it still may.
    """
    best, start, steps = np.inf, -1, price.size
    reached, inside = max(first, 0), 0.0  # first step that the run does not fill, cost of those that it does
    for candidate in range(max(first, 0), min(max(last, first), steps - 1) + 1):
        end = edges[candidate] + duration
        if end > edges[steps] + 1e-9 and start >= 0:
            break
        if reached < candidate:
            reached, inside = candidate, 0.0
        while reached < steps and edges[reached + 1] <= end:
            inside += price[reached] * (edges[reached + 1] - edges[reached])
            reached += 1
        cost = inside + (price[reached] * (end - edges[reached]) if reached < steps else 0.0)
        if cost < best - 1e-9:
            best, start = cost, candidate
        if reached > candidate:
            inside -= price[candidate] * (edges[candidate + 1] - edges[candidate])
    return start


@compiled
def _add(edges: Floats, power: float, begin: float, end: float, first: int, load: Floats) -> None:
    """`power` [kW] from `begin` to `end` [h] as means of the steps from `first` on, added to `load` (T,)."""
    for t in range(first, load.size):
        if edges[t] >= end:
            break
        inside = max(min(edges[t + 1], end) - max(edges[t], begin), 0.0)
        load[t] += power * inside / (edges[t + 1] - edges[t])


@compiled
def add_run(edges: Floats, power: float, duration: float, start: int, load: Floats) -> None:
    """The run's mean power in each step [kW], added to `load` (T,); none where `start` is -1."""
    if start >= 0 and power > 0.0:
        _add(edges, power, edges[start], edges[start] + duration, start, load)


@compiled
def smear_run(edges: Floats, power: float, duration: float, first: int, last: int, load: Floats) -> None:
    """The run's energy spread evenly over its window, added to `load` (T,) [kW]: a guess before prices are known."""
    most = load.size - 1
    begin, end = edges[min(max(first, 0), most)], edges[min(max(last, 0), most)] + duration
    _add(edges, power * duration / max(end - begin, 1e-9), begin, end, 0, load)


@compiled
def _add_runs(edges: Floats, power: Floats, duration: Floats, starts: Ints, load: Floats) -> None:
    for h in range(power.shape[0]):
        for run in range(power.shape[1]):
            add_run(edges, power[h, run], duration[h, run], starts[h, run], load[h])


def run_load(runs: Shiftable, hours: Floats, starts: Ints) -> Floats:
    """(N, T) mean power of all runs in each step [kW]."""
    edges = np.concatenate([[0.0], np.cumsum(hours)])
    load = np.zeros((starts.shape[0], hours.size))
    power, duration = np.ascontiguousarray(runs.power_kw), np.ascontiguousarray(runs.duration_h)
    _add_runs(edges, power, duration, np.ascontiguousarray(starts), load)
    return load
