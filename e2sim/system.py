"""RIC, simulator and apps in one process, in lock-step on simulated time: the same code that runs as many processes.

The wires are real (gRPC and ZeroMQ on the loopback, A1 over HTTP); only the bus is `memory://`. Time moves on when
every message of a step has been handled and every app has finished its cycle, so a seed gives the same run twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from e2sim.desired_agent import DesiredAgent
from e2sim.e2_agent import E2Agents
from e2sim.feeder_agent import FeederAgent
from e2sim.history import PRODUCER, hand_over_history
from e2sim.network import Network
from e2sim.report import Journal, PolicyChange
from e2sim.scenario_parts import PolicyEventSpec
from e2sim.told import told
from ric.a1.client import A1pClient
from ric.bus.bus import RIC_ALARMS, RIC_DECISIONS, TWIN_FORECAST, BusMessage, MemoryBus, Twins
from ric.bus.record import decode
from ric.clock import SimClock
from ric.config import validate
from ric.errors import TwinRicError
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, DecisionRecord
from ric.platform import RicConfig, RicPlatform
from ric.runtime import AppRuntime
from ric.telemetry import Metrics

__all__ = ["System", "installed_apps"]

APPS = "twinric.apps"
SETTLE_S = 60.0
STALE_S = 3_600.0
FEEDER_FORECAST = "demand_forecast_15min/"


def installed_apps() -> dict[str, Any]:
    """App classes by name, as the entry points of group `twinric.apps` give them."""
    return {entry.name: entry.load() for entry in sorted(entry_points(group=APPS), key=lambda entry: entry.name)}


class System:
    """One system over `network`; `run` takes it through its scenario. Use as an async context manager."""

    def __init__(self, network: Network, data_dir: Path, apps: Mapping[str, Any] | None = None) -> None:
        self.network = network
        self.journal = Journal()
        self.clock = SimClock(network.scenario.start_s)
        self.bus = MemoryBus()
        self.metrics = Metrics("ric")
        self.runtimes: dict[str, AppRuntime] = {}
        self._apps = installed_apps() if apps is None else apps
        self._config = RicConfig(
            data_dir=str(data_dir), node_address="127.0.0.1:0", xapp_address="127.0.0.1:0",
            a1_address="127.0.0.1:0", a1_port=0,
        )  # fmt: skip
        self._platform = RicPlatform(self._config, self.bus, self.clock, self.metrics)
        self._running: list[asyncio.Task[None]] = []
        self._waiting: list[PolicyChange] = []

    async def __aenter__(self) -> System:
        await self.bus.start()
        bound = await self._platform.start()
        self._agents = E2Agents(self.network, bound.nodes, metrics=Metrics("e2sim"))
        await self._agents.start(10.0)
        self._feeders = FeederAgent.of(self.network, self._agents)
        await self._feeders.start()
        self._desired = DesiredAgent(self.network, Twins(self.bus, self.clock, Metrics("e2sim"), "e2sim/desired"))
        await self._desired.start()
        self._a1 = A1pClient(bound.a1_url)
        await self._hand_over_history()
        for topic in (RIC_DECISIONS, RIC_ALARMS, TWIN_FORECAST):
            self._running.append(asyncio.create_task(self._write_down(topic)))
        endpoints = self._feeders.endpoints
        for name, app_type in self._apps.items():
            settings = {
                "e2_address": bound.xapps, "a1_address": bound.a1_grpc, "a1_url": bound.a1_url,
                "e3_setup_endpoint": endpoints.setup, "e3_inbound_endpoint": endpoints.inbound,
                "e3_outbound_endpoint": endpoints.outbound, "stale_after_s": STALE_S, "enforce_budget": False,
                **told(self.network.scenario, app_type.config_type.model_fields),
            }  # fmt: skip
            config = validate(app_type.config_type, settings, "CONFIG")
            links = Links(app_type.spec, app_type.policy_type, config, self.clock, bus=self.bus)
            runtime = self.runtimes[name] = AppRuntime(app_type, config, links)
            self.journal.budgets_ms[name] = app_type.spec.budget_ms
            self._running.append(asyncio.create_task(runtime.run()))
        await self._until(lambda: all(runtime.ready.is_set() for runtime in self.runtimes.values()), "apps are ready")
        await self._until(self._subscribed, "apps are subscribed")
        return self

    async def __aexit__(self, *_: object) -> None:
        for runtime in self.runtimes.values():
            runtime.stop()
        await asyncio.sleep(0.05)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._a1.aclose()
        await self._desired.stop()
        await self._feeders.stop()
        await self._agents.stop()
        await self._platform.stop()
        await self.bus.stop()

    async def run(self, progress: Callable[[float], None] = lambda _: None) -> None:
        """All steps of the scenario; `progress` is told the simulated seconds done."""
        scenario = self.network.scenario
        events = sorted(scenario.policies, key=lambda event: event.at_s)
        for end_s in scenario.instants():
            while events and scenario.start_s + events[0].at_s < end_s:
                await self._put_policy(events.pop(0))
            await self._step(end_s)
            progress(end_s - scenario.start_s)
        for name, runtime in self.runtimes.items():
            self.journal.late[name] = runtime.late_cycles
            self.journal.elapsed_ms[name] = list(runtime.elapsed_ms)
        for change in self.journal.policies:
            change.status = await self._status(change)

    async def _step(self, end_s: float) -> None:
        await self._feeders.play(self.network.now_s, end_s)
        await self._settled()
        self.network.advance(end_s)
        await self.clock.advance_to(end_s)
        await self._agents.publish(end_s)
        await self._settled()
        for change in list(self._waiting):
            change.status = await self._status(change)
            if change.status == "ENFORCED":
                change.enforced_at_s = end_s - self.network.scenario.start_s
                self._waiting.remove(change)

    # Keeping in step ------------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Return when every message sent has been handled and no app has anything left to do."""
        await self._until(self._quiet, "all messages are handled")
        for _ in range(4):  # what followers of the bus make of the last records
            await asyncio.sleep(0)
        await self._until(self._quiet, "all messages are handled")

    def _quiet(self) -> bool:
        if any(task.done() for task in self._running):
            return True  # an app died; `_until` says which
        handled = sum(runtime.inputs["e2"] for runtime in self.runtimes.values())
        windows = sum(runtime.inputs["e3"] for runtime in self.runtimes.values())
        reports = sum(runtime.links.e3.reports for runtime in self.runtimes.values() if runtime.links.e3 is not None)
        return (
            handled >= sum(agent.sent for agent in self._agents.agents.values())
            and windows >= self._feeders.sent
            and self._feeders.reports >= reports
            and not any(runtime.busy for runtime in self.runtimes.values())
            and not self._desired.busy
            and self._policies_delivered()
        )

    def _policies_delivered(self) -> bool:
        for runtime in self.runtimes.values():
            for policy in self._platform.a1.book.policies(runtime.spec.policy_type_id):
                if runtime.policies.seen_revision(policy.policy_id) < policy.revision:
                    return False
        return True

    def _subscribed(self) -> bool:
        wanted = sum(runtime.e2_subscriptions for runtime in self.runtimes.values()) * len(self.network.nodes)
        there = sum(len(agent.connection.subscriptions) for agent in self._agents.agents.values())
        uses_e3 = any(runtime.links.e3 is not None for runtime in self.runtimes.values())
        types = {policy_type.policy_type_id for policy_type in self._platform.a1.book.types()}
        registered = types >= {runtime.spec.policy_type_id for runtime in self.runtimes.values()}
        return there >= wanted and registered and (self._feeders.subscribers > 0 or not uses_e3)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll with growing pauses. Raises TwinRicError INTERNAL when `condition` does not come true in a minute."""
        limit_s, pause_s = time.monotonic() + SETTLE_S, 0.0
        while not condition():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s + 0.0001, 0.002)
            if time.monotonic() > limit_s:
                states = {name: dict(runtime.inputs) for name, runtime in self.runtimes.items()}
                raise TwinRicError("INTERNAL", "lock-step", states, f"that {what} within {SETTLE_S:g} s")
        for task in self._running:
            if task.done() and task.exception() is not None:
                raise TwinRicError("INTERNAL", "app", repr(task.exception()), "an app that runs") from task.exception()

    # Policies, history, journal -------------------------------------------------------------------------------

    async def _put_policy(self, event: PolicyEventSpec) -> None:
        began_s = time.perf_counter()
        if event.body is None:
            await self._a1.delete_policy(event.policy_type_id, event.policy_id)
        else:
            await self._a1.put_policy(event.policy_type_id, event.policy_id, event.body)
        put_ms = (time.perf_counter() - began_s) * 1e3
        change = PolicyChange(event.at_s, event.policy_type_id, event.policy_id, put_ms)
        self.journal.policies.append(change)
        if event.body is not None:
            self._waiting.append(change)
        await self._settled()

    async def _status(self, change: PolicyChange) -> str:
        status = await self._a1.policy_status(change.policy_type_id, change.policy_id)
        return " ".join(str(status[key]) for key in ("enforceStatus", "enforceReason") if status.get(key))

    async def _hand_over_history(self) -> None:
        twins = Twins(self.bus, self.clock, self.metrics, PRODUCER)
        self.journal.history.update(await hand_over_history(self.network, twins))

    async def _write_down(self, topic: str) -> None:
        async for message in self.bus.follow([topic]):
            self._journalise(message)

    def _journalise(self, message: BusMessage) -> None:
        if message.topic == RIC_DECISIONS:
            self.journal.decisions.append(DecisionRecord.FromString(message.value))
        elif message.topic == RIC_ALARMS:
            self.journal.alarms.append(Alarm.FromString(message.value))
        elif message.key.startswith(FEEDER_FORECAST):
            self.journal.forecasts[message.key.removeprefix(FEEDER_FORECAST)].append(decode(message.value).table)
