"""Shell: a fleet in shards, in this process or in Ray actors on one machine or many.

The homes of a shard and their last solution stay where the shard is. What passes between it and the master in a cycle
does not grow with its homes: prices, the teams' sums and their weights.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError
from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.solver import Effort, WarmStart, warm_up
from xapps.hems_load.solver.coordination import LocalShard, Outcome, Shard, coordinate_shards
from xapps.hems_load.solver.master import Answers, Mix
from xapps.hems_load.solver.occasions import Call
from xapps.hems_load.solver.regrid import regrid, steps_of
from xapps.hems_load.solver.teams import TEAMS

__all__ = ["Host", "LocalHost", "LostShardError", "RayHost", "RayShards", "SharedFleet"]

Floats = NDArray[np.float64]

START_S = 120.0
"""An actor may take so long to start [s]: on a new machine it compiles the solver."""
REACH_S = 5.0
"""A cluster's first machine must be reached within this long [s]."""
RAY_SETTINGS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "1000000000", "RAY_USAGE_STATS_ENABLED": "0"}
"""Without the first one, Ray ends the process that uses it a minute after its head node has gone."""


class LostShardError(TwinRicError):
    """A shard answers no more: its actor, its machine or Ray is gone, or it takes too long."""

    def __init__(self, method: str, why: str) -> None:
        remedy = f"Its actor is gone or has not come up ({why}); pose the homes anew in another one."
        super().__init__("SOLVE-FAILED", "shard", method, "a shard that answers", remedy)


class Host(Shard, Protocol):
    """A shard that stands from cycle to cycle."""

    def pose(self, problem: FleetProblem, edges_h: Floats, homes: int) -> None:
        """Take the next cycle's problem, whose steps have edges `edges_h` (T + 1,) [h] on one clock for all cycles.

        The largest shard has so many `homes`.
        """
        ...

    def plan(self) -> FleetPlan:
        """The plans of the shard's homes after the last cycle."""
        ...


class LocalHost:
    """A `Host` in this process; `teams` is the most that its homes mix in: TEAMS over the number of shards."""

    def __init__(self, effort: Effort, teams: int = TEAMS) -> None:
        self._effort, self._teams = effort, teams
        self._shard: LocalShard | None = None
        self._last: tuple[WarmStart, Floats] | None = None
        self._edges_h: Floats = np.zeros(0)

    def pose(self, problem: FleetProblem, edges_h: Floats, homes: int) -> None:
        """As in `Host`."""
        warm = None if self._last is None else regrid(*self._last, edges_h)
        self._shard = LocalShard(problem, warm, effort=self._effort, teams=self._teams, homes=homes)
        self._edges_h = edges_h

    @property
    def _posed(self) -> LocalShard:
        assert self._shard is not None
        return self._shard

    def begin(self) -> Floats:
        """As in `Shard`."""
        net = self._posed.begin()
        self._last = self._posed.warm, self._edges_h
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
        self._last = self._posed.warm, self._edges_h
        return net

    def plan(self) -> FleetPlan:
        """As in `Host`."""
        return self._posed.plan


class _Hosts:
    """The shards of one actor, by name: one of each node's homes."""

    def __init__(self, effort: Effort, teams: int) -> None:
        self._effort, self._teams = effort, teams
        self._hosts: dict[str, LocalHost] = {}
        warm_up()

    def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """Have the shard `name` do something; one that is not there begins anew."""
        if name not in self._hosts:
            self._hosts[name] = LocalHost(self._effort, self._teams)
        return getattr(self._hosts[name], method)(*arguments)

    def keep(self, names: Sequence[str]) -> None:
        """Forget all shards but these."""
        self._hosts = {name: host for name, host in self._hosts.items() if name in names}


class RayHost:
    """A `Host` in an actor of `RayShards`."""

    def __init__(self, actor: Any, name: str, answer_s: float) -> None:
        self._actor, self._name, self._answer_s = actor, name, answer_s

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(self._actor.ask.remote(self._name, method, *arguments), timeout=self._answer_s)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TwinRicError):
                raise error.cause from error
            raise
        except Exception as error:
            raise LostShardError(method, type(error).__name__) from error

    def pose(self, problem: FleetProblem, edges_h: Floats, homes: int) -> None:
        """As in `Host`."""
        self._ask("pose", problem, edges_h, homes)

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


class RayShards:
    """`number` actors that each take as many processors as `effort` has threads.

    They run on the Ray that this process has joined; else on the cluster at `address`, or on a Ray of their own, which
    lasts no longer than the thread that makes this object. An answer that takes more than `answer_s` [s] is none.
    Raises TwinRicError SOLVE-FAILED where they do not come up.
    """

    def __init__(self, number: int, effort: Effort, *, address: str = "", answer_s: float = 10.0) -> None:
        for name, value in RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        import ray

        self._answer_s, self._joined = answer_s, not ray.is_initialized()
        try:
            if self._joined:
                _reach(address)
                own = {} if address else {"num_cpus": number * effort.threads, "include_dashboard": False}
                ray.init(address or "local", log_to_driver=False, configure_logging=False, **own)
            kind = ray.remote(_Hosts).options(num_cpus=effort.threads)
            self.actors = [kind.remote(effort, max(TEAMS // number, 1)) for _ in range(number)]
            ray.get([actor.keep.remote(()) for actor in self.actors], timeout=START_S)
        except Exception as error:
            self.close()
            raise LostShardError("start", f"{type(error).__name__}: {error}") from error

    def hosts(self, name: str) -> list[RayHost]:
        """One shard called `name` in each actor."""
        return [RayHost(actor, name, self._answer_s) for actor in self.actors]

    def keep(self, names: Sequence[str]) -> None:
        """Forget all shards but these, sometime."""
        for actor in self.actors:
            actor.keep.remote(tuple(names))

    def close(self) -> None:
        """End the actors, and Ray where it was joined for them."""
        import ray

        with suppress(Exception):
            if self._joined:
                ray.shutdown()
            else:
                for actor in self.actors:
                    ray.kill(actor)


def _reach(address: str) -> None:
    """Raises OSError where nobody listens at `address`, for which Ray itself would wait for ever."""
    if address:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), REACH_S).close()


class SharedFleet:
    """A fleet whose homes are planned by several hosts side by side under one cap."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = tuple(hosts)
        self._price: Floats | None = None
        self._edges_h: Floats = np.zeros(0)

    def pose(self, problems: Sequence[FleetProblem], edges_h: Floats) -> None:
        """Give each host its homes' problem of the next cycle; `edges_h` (T + 1,) [h] as in `Host`."""
        if self._price is not None:
            self._price = self._price[steps_of(self._edges_h, edges_h)]
        self._edges_h = edges_h
        homes = max(problem.homes for problem in problems)
        list(self._side_by_side(lambda host, problem: host.pose(problem, edges_h, homes), self._hosts, problems))

    def plan(self, cap_kw: Floats, **options: Any) -> Outcome:
        """What the hosts agree on under `cap_kw` (T,) on all homes together.

        `options` are those of `coordinate_shards`. Raises TwinRicError SOLVE-FAILED, from whichever host, or for one
        that is gone.
        """
        options |= {"last_price": self._price, "each": self._side_by_side}
        outcome = coordinate_shards(self._hosts, cap_kw, np.diff(self._edges_h), **options)
        self._price = outcome.price
        return outcome

    def _side_by_side(self, work: Callable[..., Any], shards: Sequence[Shard], own: Sequence[Any]) -> Iterable[Any]:
        with ThreadPoolExecutor(len(shards)) as pool:
            return list(pool.map(work, shards, own))

    def plans(self) -> list[FleetPlan]:
        """The hosts' plans, which do grow with their homes."""
        return list(self._side_by_side(lambda host, _: host.plan(), self._hosts, self._hosts))
