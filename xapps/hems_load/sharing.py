"""Shell: the homes of each node planned in shards elsewhere, and what happens when these are lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError
from xapps.hems_load.capped_plans import joined
from xapps.hems_load.config import HemsConfig
from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.shards import START_S, LostShardError, RayShards, SharedFleet
from xapps.hems_load.solver import Effort
from xapps.hems_load.state import State

__all__ = ["SharedPlans", "shared_plans_of"]

Floats = NDArray[np.float64]
CLOSE_S = 10.0
"""The end of the shards is waited for so long [s]."""


def shared_plans_of(config: HemsConfig) -> SharedPlans | None:
    """What `config` asks for; None where its plans are made in this process. Raises TwinRicError CONFIG-MISSING."""
    if not config.shards:
        return None
    if find_spec("ray") is None:
        remedy = "Install it, or leave shards at 0: plans are then made in this process."
        raise TwinRicError("CONFIG-MISSING", "shards", config.shards, "more than 0 where ray is installed", remedy)
    effort = Effort(threads=config.solver_threads)
    return SharedPlans(
        lambda: RayShards(config.shards, effort, address=config.ray_address, answer_s=config.shard_answer_s)
    )


class _Worker:
    """One thread that does what it is given in turn. A Ray of this machine ends with the thread that has started it, so
    it lasts; a Ray that does not answer must not keep the process from ending, so it is a daemon, as no pool's is.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        Thread(target=self._run, name="shards", daemon=True).start()

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have `work` done; what it comes to."""
        future: Future[Any] = Future()
        self._tasks.put((future, work))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._tasks.get()
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - whoever asked for it is told
                future.set_exception(error)


class SharedPlans:
    """Plans from `RayShards`. Where they are lost there are no plans from here until new ones stand.

    The homes of a node are dealt out to the shards in turn, so that each has its part of every kind.
    """

    def __init__(self, start: Callable[[], RayShards]) -> None:
        self._start = start
        self._worker = _Worker()
        self._shards: RayShards | None = None
        self._starting: Future[RayShards] | None = None
        self._fleets: dict[str, tuple[tuple[str, ...], str, SharedFleet]] = {}
        self._named = 0
        self._is_closed = False
        self.fault = ""
        """Why plans are not made in shards; empty while they are."""

    def start(self) -> None:
        """Wait for the shards to come up; where they do not, `fault` says why."""
        self._starting = self._worker.submit(self._start)
        with suppress(LostShardError, TimeoutError):
            self._starting.result(START_S)
        self.fault = "" if self._ready() else self.fault or "they are not up yet"

    def _ready(self) -> RayShards | None:
        """The shards; None while there are none, and then new ones are on their way."""
        if self._is_closed:
            return None
        if self._starting is not None and self._starting.done():
            error = self._starting.exception()
            if error is None:
                self._shards, self.fault = self._starting.result(), ""
            else:
                self.fault = str(error)
            self._starting = None
        if self._shards is None and self._starting is None:
            self._starting = self._worker.submit(self._start)
        return self._shards

    def plan(self, state: State, problem: FleetProblem, cap_kw: Floats, options: Mapping[str, Any]) -> FleetPlan | None:
        """As in `SharedPlanner`."""
        shards = self._ready()
        if shards is None:
            return None
        number = min(len(shards.actors), problem.homes)
        rows = [np.arange(first, problem.homes, number) for first in range(number)]
        try:
            fleet = self._fleet(shards, state, number)
            fleet.pose([problem.take(own) for own in rows], state.time_s / 3600 + state.edges_h)
            outcome = fleet.plan(cap_kw, **options)
            plan = joined(fleet.plans(), rows)
        except TwinRicError as error:
            self._fleets.pop(state.node, None)  # what is left of a round that failed is no start for the next one
            if isinstance(error, LostShardError):
                self._lose(shards, str(error))
            raise
        return replace(plan, fleet_price=outcome.price, miss_kw=outcome.miss_kw, rounds=outcome.rounds)

    def _fleet(self, shards: RayShards, state: State, number: int) -> SharedFleet:
        known = self._fleets.get(state.node)
        if known is None or known[0] != state.homes.ids:
            self._named += 1
            name = f"{state.node}#{self._named}"
            known = state.homes.ids, name, SharedFleet(shards.hosts(name)[:number])
            self._fleets[state.node] = known
            shards.keep([name for _, name, _ in self._fleets.values()])
        return known[2]

    def _lose(self, shards: RayShards, fault: str) -> None:
        """End what is left and start anew; both take a while."""
        self._shards, self._fleets, self.fault = None, {}, fault
        if not self._is_closed:
            self._starting = self._worker.submit(partial(self._start_after, shards))

    def _start_after(self, lost: RayShards) -> RayShards:
        lost.close()
        return self._start()

    def close(self) -> None:
        """End the shards; plans are not to be had from here afterwards."""
        self._is_closed = True
        ended = self._worker.submit(self._end)
        with suppress(TimeoutError):
            ended.result(CLOSE_S)

    def _end(self) -> None:
        if self._starting is not None and self._starting.done() and self._starting.exception() is None:
            self._shards = self._starting.result()
        if self._shards is not None:
            self._shards.close()
