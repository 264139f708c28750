"""Shell: a fleet in shards, in this process or in Ray actors on one machine or many.

The homes of a shard and their last solution stay where the shard is. What passes between it and the master in a cycle
does not grow with its homes: prices, the teams' sums and their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError
from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.solver import Effort, WarmStart, warm_up
from xapps.hems_load.solver.coordination import LocalShard, Outcome, Shard, coordinate_shards
from xapps.hems_load.solver.master import Answers, Mix
from xapps.hems_load.solver.occasions import Call
from xapps.hems_load.solver.teams import TEAMS

__all__ = ["Host", "LocalHost", "RayHost", "SharedFleet"]

Floats = NDArray[np.float64]


class Host(Shard, Protocol):
    """A shard that stands from cycle to cycle."""

    def pose(self, problem: FleetProblem, shift_steps: int) -> None:
        """Take the next cycle's problem, which begins `shift_steps` after the last one."""
        ...

    def plan(self) -> FleetPlan:
        """The plans of the shard's homes after the last cycle."""
        ...


class LocalHost:
    """A `Host` in this process; `teams` is the most that its homes mix in: TEAMS over the number of shards."""

    def __init__(self, effort: Effort, teams: int = TEAMS) -> None:
        self._effort, self._teams = effort, teams
        self._shard: LocalShard | None = None
        self._warm: WarmStart | None = None
        warm_up()

    def pose(self, problem: FleetProblem, shift_steps: int) -> None:
        """As in `Host`."""
        self._shard = LocalShard(problem, self._warm, shift_steps=shift_steps, effort=self._effort, teams=self._teams)

    @property
    def _posed(self) -> LocalShard:
        assert self._shard is not None
        return self._shard

    def begin(self) -> Floats:
        """As in `Shard`."""
        net = self._posed.begin()
        self._warm = self._posed.warm
        return net

    def push(self, call: Call, price: Floats) -> Floats:
        """As in `Shard`."""
        return self._posed.push(call, price)

    def ask(self, part: Floats, price: Floats | None, last: Mix | None) -> Answers:
        """As in `Shard`."""
        return self._posed.ask(part, price, last)

    def finish(self, mix: Mix, price: Floats) -> Floats:
        """As in `Shard`."""
        net = self._posed.finish(mix, price)
        self._warm = self._posed.warm
        return net

    def plan(self) -> FleetPlan:
        """As in `Host`."""
        return self._posed.plan


class RayHost:
    """A `Host` in a Ray actor, which takes as many processors as its effort has threads."""

    def __init__(self, effort: Effort, teams: int = TEAMS) -> None:
        import ray

        self._get, self._failed, self._lost = ray.get, ray.exceptions.RayTaskError, ray.exceptions.RayError
        self._actor = ray.remote(LocalHost).options(num_cpus=effort.threads).remote(effort, teams)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._get(getattr(self._actor, method).remote(*arguments))
        except self._failed as error:
            if isinstance(error.cause, TwinRicError):
                raise error.cause from error
            raise
        except self._lost as error:
            remedy = f"Its actor is gone ({type(error).__name__}); pose the homes anew in another one."
            raise TwinRicError("SOLVE-FAILED", "shard", method, "a shard that answers", remedy) from error

    def pose(self, problem: FleetProblem, shift_steps: int) -> None:
        """As in `Host`."""
        self._ask("pose", problem, shift_steps)

    def begin(self) -> Floats:
        """As in `Shard`."""
        return np.asarray(self._ask("begin"))

    def push(self, call: Call, price: Floats) -> Floats:
        """As in `Shard`."""
        return np.asarray(self._ask("push", call, price))

    def ask(self, part: Floats, price: Floats | None, last: Mix | None) -> Answers:
        """As in `Shard`."""
        answers: Answers = self._ask("ask", part, price, last)
        return answers

    def finish(self, mix: Mix, price: Floats) -> Floats:
        """As in `Shard`."""
        return np.asarray(self._ask("finish", mix, price))

    def plan(self) -> FleetPlan:
        """As in `Host`."""
        plan: FleetPlan = self._ask("plan")
        return plan


class SharedFleet:
    """A fleet whose homes are planned by several hosts side by side under one cap."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = tuple(hosts)
        self._last_price: Floats | None = None

    def pose(self, problems: Sequence[FleetProblem], shift_steps: int = 0) -> None:
        """Give each host its homes' problem of the next cycle, which begins `shift_steps` after the last one."""
        last = self._last_price
        if last is not None:
            self._last_price = last[np.minimum(np.arange(last.size) + shift_steps, last.size - 1)]
        list(self._side_by_side(lambda host, problem: host.pose(problem, shift_steps), self._hosts, problems))

    def plan(self, cap_kw: Floats, hours: Floats, **options: Any) -> Outcome:
        """What the hosts agree on under `cap_kw` (T,) on all homes together, in steps of `hours` (T,).

        `options` are those of `coordinate_shards`. Raises TwinRicError SOLVE-FAILED, from whichever host, or for one
        that is gone.
        """
        options |= {"last_price": self._last_price, "each": self._side_by_side}
        outcome = coordinate_shards(self._hosts, cap_kw, hours, **options)
        self._last_price = outcome.price
        return outcome

    def _side_by_side(self, work: Callable[..., Any], shards: Sequence[Shard], own: Sequence[Any]) -> Iterable[Any]:
        with ThreadPoolExecutor(len(shards)) as pool:
            return list(pool.map(work, shards, own))

    def plans(self) -> list[FleetPlan]:
        """The hosts' plans, which do grow with their homes."""
        return [host.plan() for host in self._hosts]
