"""Time as a dependency: real or simulated, one interface.

Times are seconds since the Unix epoch as float where people read them and integer nanoseconds on the wire.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

__all__ = ["Clock", "Deadline", "SimClock", "SourceClock", "WallClock", "learn_time", "sleep_for", "to_ns", "to_s"]

NS = 1_000_000_000
NEW_WORLD_S = 3_600.0


def to_ns(time_s: float) -> int:
    """Nanoseconds of `time_s` [s], to the microsecond, so that equal instants compare equal."""
    return round(time_s * 1_000_000) * 1_000


def to_s(time_ns: int) -> float:
    """Seconds of `time_ns` [ns]."""
    return time_ns / NS


class Clock(Protocol):
    """What every timed part of the house is given instead of `time` and `asyncio.sleep`."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def elapsed_s(self) -> float:
        """Seconds since some instant, for durations: no step of the system clock shows in it."""
        ...

    async def sleep_until(self, time_s: float) -> None:
        """Return when `now_s() >= time_s`."""
        ...


class WallClock:
    """The machine's clock; steps of the system clock do not disturb sleeps that are under way."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def elapsed_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep_until(self, time_s: float) -> None:
        """Sleep for the difference that holds now, on the monotonic clock."""
        await asyncio.sleep(max(0.0, time_s - time.time()))


class SimClock:
    """Simulated time: stands still until :meth:`advance_to` moves it, then wakes sleepers in order of their time."""

    def __init__(self, start_s: float) -> None:
        self._now_s = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        """Simulated seconds since the Unix epoch."""
        return self._now_s

    def elapsed_s(self) -> float:
        """The same: simulated time makes no steps."""
        return self._now_s

    async def sleep_until(self, time_s: float) -> None:
        """Return once the simulation has reached `time_s`."""
        if time_s <= self._now_s:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (time_s, next(self._order), wake))
        await wake

    async def advance_to(self, time_s: float) -> None:
        """Move to `time_s`, stopping at each sleeper on the way. Raises ValueError when `time_s` lies in the past."""
        if time_s < self._now_s:
            raise ValueError(f"simulated time cannot go back from {self._now_s} to {time_s}")
        while self._sleepers and self._sleepers[0][0] <= time_s:
            wake_s, _, wake = heapq.heappop(self._sleepers)
            if wake.done():
                continue
            self._now_s = wake_s
            wake.set_result(None)
            await asyncio.sleep(0)
        self._now_s = time_s


class SourceClock:
    """Time of a simulated or replayed world, learnt from its inputs: the newest source time, and wall time since.

    For apps whose inputs bear dates of their own (a scenario of 2016, at any speed): validity and staleness are then
    judged in that world. A source time that lies more than an hour behind starts a new world. Before the first input
    it is the machine's clock.
    """

    def __init__(self) -> None:
        self._source_s: float | None = None
        self._learnt_s = 0.0

    def now_s(self) -> float:
        """Seconds since the Unix epoch, in the world of the inputs."""
        if self._source_s is None:
            return time.time()
        return self._source_s + time.monotonic() - self._learnt_s

    def elapsed_s(self) -> float:
        """The same: durations are the world's, and a new world begins anew."""
        return self.now_s()

    def learn(self, source_time_ns: int, *, live: bool = True) -> None:
        """Move to `source_time_ns` [ns] if that is later or, told by a live input, more than an hour earlier."""
        source_s = to_s(source_time_ns)
        now_s = None if self._source_s is None else self.now_s()
        if now_s is None or source_s > now_s or (live and now_s - source_s > NEW_WORLD_S):
            self._source_s, self._learnt_s = source_s, time.monotonic()

    async def sleep_until(self, time_s: float) -> None:
        """Sleep for the difference that holds now, on the monotonic clock; what is learnt meanwhile does not count."""
        await asyncio.sleep(max(0.0, time_s - self.now_s()))


async def sleep_for(clock: Clock, duration_s: float) -> None:
    """Return after `duration_s` of `clock`, whatever happens to its date."""
    await clock.sleep_until(clock.now_s() + duration_s)


def learn_time(clock: Clock, source_time_ns: int, *, live: bool = True) -> None:
    """Tell `clock` of an input's source time [ns], `live` or read from a store; only a `SourceClock` listens."""
    if isinstance(clock, SourceClock):
        clock.learn(source_time_ns, live=live)


class Deadline:
    """An instant `budget_ms` after now on the monotonic clock: budgets are about computing, so they stay real even
    where the clock is simulated.
    """

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self._start_s = time.perf_counter()

    @property
    def elapsed_ms(self) -> float:
        """Wall milliseconds since the deadline was set."""
        return (time.perf_counter() - self._start_s) * 1e3

    @property
    def late(self) -> bool:
        """True once the budget is spent."""
        return self.elapsed_ms > self.budget_ms
