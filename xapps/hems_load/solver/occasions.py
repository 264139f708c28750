"""When homes give for a cap, how much each of them could give, and how even what they give is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetPlan
from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.teams import blended

__all__ = ["Call", "Gifts", "call_of", "miss_of", "over_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KEPT = 1e-3
"""A cap passed by no more than this share of it counts as kept."""
LEVEL = 0.3
"""How much of the difference between what a home and what all homes give is taken away at the end, in big teams [1]."""
LEAST_KWH = 0.1
"""Homes that can give less than this on an occasion have no share in it."""
MOST_OCCASIONS = 3
APART_H = 1.0
"""Steps over the cap that are no further apart than this are one occasion [h]."""


@dataclass(frozen=True)
class Call:
    """Where the free plans pass the cap, and how those steps fall into occasions on which homes give."""

    capped: Bools
    """(T,) steps that have a cap."""
    occasion: Ints
    """(T,) number of the occasion that a step belongs to, -1 for none."""
    evenness: float
    """How much homes are to be held to giving evenly, from 0 to 1."""

    @property
    def occasions(self) -> int:
        """B."""
        return int(self.occasion.max(initial=-1)) + 1


def over_of(net_kw: Floats, cap_kw: Floats) -> Bools:
    """(T,) where `net_kw` passes `cap_kw` by more than rounding."""
    return np.asarray(net_kw > cap_kw + KEPT * np.abs(cap_kw))


def miss_of(net_kw: Floats, cap_kw: Floats) -> Floats:
    """(T,) by how much [kW], 0 where it is kept."""
    return np.where(over_of(net_kw, cap_kw), net_kw - cap_kw, 0.0)


def call_of(net_kw: Floats, cap_kw: Floats, hours: Floats, evenness: float = 1.0) -> Call:
    """The occasions of the free plans' `net_kw` (T,): those with most energy beyond the cap."""
    over, ends = np.flatnonzero(over_of(net_kw, cap_kw)), np.cumsum(hours)
    occasion = np.full(cap_kw.size, -1, dtype=np.int64)
    if over.size:
        new = np.diff(ends[over] - hours[over], prepend=-np.inf) > APART_H + hours[over]
        run = np.cumsum(new) - 1
        energy = np.bincount(run, (hours * (net_kw - cap_kw))[over])
        rank = np.argsort(np.argsort(-energy, kind="stable"))
        occasion[over] = np.where(rank[run] < MOST_OCCASIONS, rank[run], -1)
    return Call(np.isfinite(cap_kw), occasion, min(max(evenness, 0.0), 1.0))


class Gifts:
    """What homes give on each occasion, of what they could do without: the import that the push takes from them.

    Exports count for nothing here: a home that sells what it has stored is not curtailed.
    """

    def __init__(self, hours: Floats, call: Call, free: FleetPlan, pushed: FleetPlan) -> None:
        self._call, self._hours, self._steps = call, hours, np.flatnonzero(call.occasion >= 0)
        self._free_kwh = self._import_kwh(free)
        self._potential = self._free_kwh - self._import_kwh(pushed)
        self.able = self._potential > LEAST_KWH
        """(N, B) homes that can give."""
        self.most_kw = np.zeros(hours.size)
        """(T,) how much less all homes import that do so when pushed; 0 off the occasions."""
        _add_less(free.net_kw, pushed.net_kw, self._steps, self.most_kw)

    def _import_kwh(self, plan: FleetPlan) -> Floats:
        kwh = np.zeros((plan.net_kw.shape[0], self._call.occasions))
        _add_imports(plan.net_kw, self._hours, self._steps, self._call.occasion, kwh)
        return kwh

    def share(self, plan: FleetPlan) -> Floats:
        """(N, B) what `plan` gives, over what could be given; 0 for those who can't."""
        given = self._free_kwh - self._import_kwh(plan)
        return np.divide(given, self._potential, out=np.zeros(self.able.shape), where=self.able)

    def levelled(self, mixture: Floats, share: list[Floats]) -> Floats:
        """(K, N) `mixture` of plans, part of the way to where each home's shares are nearest to those of all homes.

        `share` is what each plan gives. What is mixed in is the free plans or the push.
        """
        given = blended(share, mixture)
        able = self.able.astype(float)
        wanted = (able * given).sum(axis=0) / np.maximum(able.sum(axis=0), 1.0)
        given, rest = able * given, able * (1 - given)
        less = np.clip(1 - given @ wanted / np.maximum((given**2).sum(axis=1), 1e-9), 0, 1) * able.any(axis=1)
        missing = (rest * (able * wanted - given)).sum(axis=1)
        more = np.where(less > 0, 0.0, np.clip(missing / np.maximum((rest**2).sum(axis=1), 1e-9), 0, 1))
        less, more = LEVEL * less, LEVEL * more
        result = mixture * (1 - less - more)
        result[0] += less
        result[1] += more
        return np.asarray(result)

    def price(self, share_price: Floats) -> Floats:
        """(N, B) what each home's import costs more [EUR/kWh] where a whole share of it is worth `share_price`."""
        return np.divide(share_price, self._potential, out=np.zeros(self.able.shape), where=self.able)


@compiled
def _add_imports(net: Floats, hours: Floats, steps: Ints, occasion: Ints, kwh: Floats) -> None:
    for h in range(net.shape[0]):
        for t in steps:
            kwh[h, occasion[t]] += hours[t] * max(net[h, t], 0.0)


@compiled
def _add_less(free: Floats, pushed: Floats, steps: Ints, less: Floats) -> None:
    for h in range(free.shape[0]):
        for t in steps:
            less[t] += max(max(free[h, t], 0.0) - max(pushed[h, t], 0.0), 0.0)
