"""Runs a network against the clock: in real time, faster, or as fast as it goes.

Simulated time is the scenario's start + speed x elapsed time; apps take their time from the sources that they read.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from e2sim.e2_agent import E2Agents
from e2sim.network import Network
from ric.clock import Clock, sleep_for
from ric.telemetry import logger

__all__ = ["Engine", "stop_on_signals"]

Hook = Callable[[float, float], Awaitable[object]]
LAG_WARNING_S = 1.0


class Engine:
    """Steps `network` and publishes its indications until the scenario ends or `stop` is called."""

    def __init__(self, network: Network, agents: E2Agents | None, clock: Clock, *, speed: float | None = 1.0) -> None:
        """`speed` is simulated seconds per second of `clock`; None runs as fast as it goes."""
        self.network = network
        self.steps = 0
        self.largest_lag_s = 0.0
        self.hooks: list[Hook] = []
        """Awaited with the start and end of every step [s], before it is taken: where the E3 side joins."""
        self._agents = agents
        self._clock = clock
        self._speed = speed
        self._stop = asyncio.Event()
        self._log = logger("e2sim")

    def stop(self) -> None:
        """End the run before its next step."""
        self._stop.set()

    async def stopped(self) -> None:
        """Return once `stop` was called."""
        await self._stop.wait()

    async def stopped_before(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but leave it when `stop` is called first: True then. Raises what `work` raises."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return self._stop.is_set()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def run(self) -> None:
        """Take all steps of the scenario. A run that cannot keep up goes on late and says so."""
        scenario = self.network.scenario
        began_s = self._clock.elapsed_s()
        for end_s in scenario.instants():
            if self._speed is not None:
                await self._wait_until(began_s + (end_s - scenario.start_s) / self._speed)
            else:
                await asyncio.sleep(0)
            if self._stop.is_set():
                break
            for hook in self.hooks:
                await hook(self.network.now_s, end_s)
            self.network.advance(end_s)
            if self._agents is not None:
                await self._agents.publish(end_s)
            self.steps += 1
        self._log.info("run ended", steps=self.steps, largest_lag_s=round(self.largest_lag_s, 3))

    async def _wait_until(self, due_s: float) -> None:
        lag_s = self._clock.elapsed_s() - due_s
        if lag_s > max(LAG_WARNING_S, 2 * self.largest_lag_s):
            self._log.warning("simulation lags", lag_s=round(lag_s, 3))
        self.largest_lag_s = max(self.largest_lag_s, lag_s)
        await self.stopped_before(self._sleep_until(due_s))

    async def _sleep_until(self, due_s: float) -> None:
        await sleep_for(self._clock, due_s - self._clock.elapsed_s())


def stop_on_signals(engine: Engine) -> None:
    """Let SIGTERM and SIGINT end the run in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop)
