"""Starts of runs that cannot be interrupted: the cheapest of all allowed at the home's own marginal prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import Shiftable
from xapps.hems_load.solver.compiled import compiled

__all__ = ["choose_starts", "run_load", "smeared_load"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def _overlap_h(edges: Floats, t: int, begin: float, end: float) -> float:
    return float(max(min(edges[t + 1], end) - max(edges[t], begin), 0.0))


@compiled
def _cheapest(edges: Floats, price: Floats, duration: float, first: int, last: int) -> int:
    best, start = np.inf, -1
    for candidate in range(max(first, 0), min(last, price.size - 1) + 1):
        begin = edges[candidate]
        if begin + duration > edges[price.size] + 1e-9 and start >= 0:
            break
        cost = 0.0
        for t in range(candidate, price.size):
            if edges[t] >= begin + duration:
                break
            cost += price[t] * _overlap_h(edges, t, begin, begin + duration)
        if cost < best - 1e-9:
            best, start = cost, candidate
    return start


@compiled
def _choose(
    edges: Floats, price: Floats, power: Floats, duration: Floats, first: Ints, last: Ints, starts: Ints
) -> None:
    for h in range(power.shape[0]):
        for run in range(power.shape[1]):
            if power[h, run] > 0.0:
                starts[h, run] = _cheapest(edges, price[h], duration[h, run], first[h, run], last[h, run])


def choose_starts(runs: Shiftable, hours: Floats, price: Floats) -> Ints:
    """(N, K) step in which each run starts, -1 where there is none; `price` (N, T) [EUR/kWh].

    A window that closed before the horizon begins, or after which a run would pass the horizon's end, starts the run at
    the first step that it still may.
    """
    starts = np.full(runs.power_kw.shape, -1, dtype=np.int64)
    edges = np.concatenate([[0.0], np.cumsum(hours)])
    power, duration = np.ascontiguousarray(runs.power_kw), np.ascontiguousarray(runs.duration_h)
    first = np.ascontiguousarray(runs.first, dtype=np.int64)
    last = np.ascontiguousarray(np.maximum(runs.last, runs.first), dtype=np.int64)
    _choose(edges, np.ascontiguousarray(price), power, duration, first, last, starts)
    return starts


@compiled
def _add_runs(edges: Floats, power: Floats, duration: Floats, starts: Ints, load: Floats) -> None:
    for h in range(power.shape[0]):
        for run in range(power.shape[1]):
            if starts[h, run] < 0 or power[h, run] == 0.0:
                continue
            begin = edges[starts[h, run]]
            end = begin + duration[h, run]
            for t in range(starts[h, run], load.shape[1]):
                if edges[t] >= end:
                    break
                load[h, t] += power[h, run] * _overlap_h(edges, t, begin, end) / (edges[t + 1] - edges[t])


def run_load(runs: Shiftable, hours: Floats, starts: Ints) -> Floats:
    """(N, T) mean power of all runs in each step [kW]."""
    edges = np.concatenate([[0.0], np.cumsum(hours)])
    load = np.zeros((starts.shape[0], hours.size))
    power, duration = np.ascontiguousarray(runs.power_kw), np.ascontiguousarray(runs.duration_h)
    _add_runs(edges, power, duration, np.ascontiguousarray(starts), load)
    return load


def smeared_load(runs: Shiftable, hours: Floats) -> Floats:
    """(N, T) each run's energy spread evenly over its window [kW]: a guess before prices are known."""
    edges = np.concatenate([[0.0], np.cumsum(hours)])
    begin = edges[np.clip(runs.first, 0, hours.size - 1)][:, :, None]
    end = edges[np.clip(runs.last, 0, hours.size - 1)][:, :, None] + runs.duration_h[:, :, None]
    share = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0, None) / np.maximum(end - begin, 1e-9)
    return np.asarray(np.einsum("nk,nkt->nt", runs.power_kw * runs.duration_h, share) / hours)
