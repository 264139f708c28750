"""Teams in which homes mix their answers to prices, and sums of homes by team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetPlan
from xapps.hems_load.solver.compiled import compiled

__all__ = ["TEAMS", "Habits", "blended", "by_team", "form_teams", "mixed_by_team"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TEAMS = 96
"""Teams in which homes mix: equal homes give equally, and unlike ones need not."""
BINS = 8
"""Parts of all homes, by what they give on an occasion, that are told apart when teams are formed."""


class Habits(NamedTuple):
    """What is known of N homes' free plans when teams are formed."""

    kind: Ints
    """(N,) whether the car (1) and the battery (2) are used."""
    most_kw: Floats
    """(N,) highest import ..."""
    when: Ints
    """... and its step."""

    @classmethod
    def of(cls, free: FleetPlan) -> Habits:
        """Of these plans."""
        homes = free.net_kw.shape[0]
        result = cls(np.zeros(homes, dtype=np.int64), np.empty(homes), np.empty(homes, dtype=np.int64))
        _note_habits(free.net_kw, free.ev_kw, free.battery_kw, *result)
        return result


def form_teams(habits: Habits, share: Floats, able: Bools, most: int = TEAMS) -> tuple[Ints, int]:
    """(N,) team of each home, and how many teams there are, `most` or fewer: homes that give alike, import most at the
    same time, and charge and heat alike are together. `share` (N, B) of what they give so far, `able` (N, B) of who
    can.
    """
    homes, alike = habits.kind.size, [_ranked(given) for given in share.T]
    order = np.lexsort((habits.most_kw, habits.when, *alike, habits.kind + 4 * able.any(axis=1)))
    team, teams = np.empty(homes, dtype=np.int64), min(most, homes)
    team[order] = np.arange(homes) * teams // homes
    return team, teams


def _ranked(values: Floats) -> Ints:
    """(N,) which of BINS equal parts of all homes each belongs to."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") * BINS // values.size


@compiled
def _note_habits(net: Floats, ev: Floats, battery: Floats, kind: Ints, most: Floats, when: Ints) -> None:
    for h in range(net.shape[0]):
        first = 0
        for t in range(net.shape[1]):
            kind[h] |= (ev[h, t] != 0.0) | 2 * (battery[h, t] != 0.0)
            if net[h, t] > net[h, first]:
                first = t
        most[h], when[h] = net[h, first], first


@compiled
def _add_to_teams(values: Floats, weight: Floats, team: Ints, total: Floats) -> None:
    for home in range(values.shape[0]):
        if weight[home] != 0.0:
            for n in range(values.shape[1]):
                total[team[home], n] += weight[home] * values[home, n]


@compiled
def _add(values: Floats, weight: Floats, rows: Ints, total: Floats) -> None:
    for e, home in enumerate(rows):
        if weight[home] != 0.0:
            for n in range(values.shape[1]):
                total[e, n] += weight[home] * values[home, n]


def by_team(values: Floats, team: Ints, teams: int) -> Floats:
    """(teams, M) sums of `values` (N, M)."""
    return mixed_by_team([values], np.ones((1, team.size)), team, teams)


def mixed_by_team(parts: Sequence[Floats], weights: Floats, team: Ints, teams: int) -> Floats:
    """(teams, M) sums of what homes get that take each of `parts`, K of (N, M), to its `weights` (K, N)."""
    total = np.zeros((teams, parts[0].shape[1]))
    for values, weight in zip(parts, weights, strict=True):
        _add_to_teams(np.ascontiguousarray(values), np.ascontiguousarray(weight), team, total)
    return total


def blended(parts: Sequence[Floats], weights: Floats, rows: Ints | None = None) -> Floats:
    """(P, ...) what homes get, those in `rows` (P,) or all, that take each of `parts`, K of (N, ...), to its `weights`
    (K, N).
    """
    rows = np.arange(len(parts[0])) if rows is None else rows
    total: Floats = np.zeros((rows.size, *parts[0].shape[1:]))
    flat = total.reshape(rows.size, int(np.prod(parts[0].shape[1:])))
    for values, weight in zip(parts, weights, strict=True):
        own = np.ascontiguousarray(values).reshape(len(values), flat.shape[1])
        _add(own, np.ascontiguousarray(weight), rows, flat)
    return total
