"""Caps on what homes import together: all homes of a node, and groups of them. All hold at the same time.

Whatever is shed for one cap lowers imports only, so no cap is broken for another; the smallest group gives first, and
what it gives counts for all that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.policy import DrEvent, HemsPolicy, import_cap_kw
from xapps.hems_load.state import State

__all__ = ["ALL_HOMES", "Cap", "Capped", "Caps", "cap_key", "capped_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALL_HOMES = ""
KEPT = 1e-3
"""A cap passed by no more than this share of it counts as kept."""


@dataclass(frozen=True)
class Capped:
    """Homes (N,) that a policy of their own may cap: a group, or all of the node, which has no name."""

    name: str
    rows: Bools
    policy: HemsPolicy

    @property
    def asks(self) -> tuple[str, HemsPolicy]:
        """What a plan is made for."""
        return self.name, self.policy


@dataclass(frozen=True)
class Cap:
    """Most that the homes in `rows` (N,) may import together [kW], now or (T,) in each step; infinite for no cap."""

    name: str
    rows: Bools
    kw: Floats | float
    fairness: float

    def is_over(self, net_kw: Floats) -> Bools:
        """Whether `net_kw` (N,) or (N, T) passes it by more than rounding."""
        return np.asarray(self.over_kw(net_kw) > KEPT * np.abs(self.kw))

    def over_kw(self, net_kw: Floats) -> Floats:
        """By how much `net_kw` (N,) or (N, T) passes it [kW]; less than 0 where it is kept."""
        return np.asarray(net_kw[self.rows].sum(axis=0) - self.kw)


def cap_key(name: str) -> str:
    """How a decision names what is missed of the cap on all homes, or on the group `name`."""
    return f"cap/{name}" if name else "cap"


def capped_of(state: State, policy: HemsPolicy, groups: Mapping[str, HemsPolicy]) -> tuple[Capped, ...]:
    """The groups that `groups` has policies for, the smallest first, and all homes last."""
    found = [Capped(name, state.groups[name], groups[name]) for name in sorted(groups) if name in state.groups]
    found.sort(key=lambda group: int(group.rows.sum()))
    return (*found, Capped(ALL_HOMES, np.ones(len(state.homes), dtype=bool), policy))


@dataclass(frozen=True)
class Caps:
    """What caps and demand-response events ask; an event counts from the plan that stood when it became known."""

    references: Mapping[str, tuple[DrEvent, float]] = field(default_factory=dict)
    """By name of the homes: the event, and what it counts from [kW]."""

    def noted(self, capped: Capped, edges_s: Floats, net_kw: Floats) -> Caps:
        """The same with what a new event counts from: the mean over its time of `net_kw` (N, T), planned between
        `edges_s`.
        """
        event, known = capped.policy.dr_event, self.references.get(capped.name)
        if event is None:
            return Caps({name: kept for name, kept in self.references.items() if name != capped.name})
        if known is not None and known[0] == event:
            return self
        within = np.diff(np.clip(edges_s, event.start_s, event.end_s))
        within[-1] += within.sum() <= 0  # an event beyond the plan counts from the plan's end
        planned = net_kw[capped.rows].sum(axis=0)
        return Caps({**self.references, capped.name: (event, float(np.average(planned, weights=within)))})

    def at(self, capped: Capped, times_s: Floats | float) -> Cap:
        """The cap that holds at `times_s`: the policy's, or what its event leaves where that is less."""
        if isinstance(times_s, float):
            kw: Floats | float = self._kw(capped, times_s)
        else:
            kw = np.array([self._kw(capped, float(time_s)) for time_s in times_s])
        return Cap(capped.name, capped.rows, kw, capped.policy.fairness)

    def _kw(self, capped: Capped, time_s: float) -> float:
        cap, event = import_cap_kw(capped.policy, time_s), capped.policy.dr_event
        due = None if event is None else event.due_kw(time_s)
        known = self.references.get(capped.name)
        return cap if due is None or known is None else min(cap, max(known[1] - due, 0.0))
