"""Runs one app: connect, loop, budget, staleness, fallback, policy, shutdown.

The loop is here and not in the apps, so that no app can forget its safe action. A cycle runs when a handler says that
its input makes one due, or when no input has come for `stale_after_s`. Time comes from the injected clock; budgets are
about computing and use the wall clock.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine
from typing import Any, ClassVar, Generic, TypeVar

from ric.app_policies import AppPolicies, PolicyOutcome
from ric.app_spec import AppConfig, AppSpec, Ric
from ric.bus.acks import follow_acks
from ric.bus.bus import RIC_DECISIONS
from ric.bus.record import Ack, TwinState, cloudevents_headers
from ric.clock import Deadline, learn_time, sleep_for, to_ns
from ric.config import FrozenModel
from ric.decision import Decided, Reason
from ric.errors import TwinRicError
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.scopes import Scope
from ric.telemetry import trace, trace_id

__all__ = ["App", "AppRuntime"]

KEPT_CYCLES = 100_000

ConfigT = TypeVar("ConfigT", bound=AppConfig)
PolicyT = TypeVar("PolicyT", bound=FrozenModel)
StateT = TypeVar("StateT")
DecisionT = TypeVar("DecisionT", bound=Decided)

E2Input = Callable[[str, bytes, bytes], int | None]
"""Handler of an E2 indication: (E2 node id, header, message) -> source time [ns] of the cycle now due, or None."""
TwinInput = Callable[[str, TwinState], int | None]
"""Handler of a twin record: (topic, state) -> source time [ns] of the cycle now due, or None."""
E3Input = Callable[[int, memoryview], int | None]
"""Handler of an E3 indication: (RAN function id, protocol data) -> source time [ns] of the cycle now due, or None."""


class App(ABC, Generic[ConfigT, PolicyT, StateT, DecisionT]):
    """One RIC app: its declaration and the steps that the runtime calls.

    Handlers only store what they decode; `decide` and `fallback` are calls into the pure rooms.
    """

    spec: ClassVar[AppSpec]
    config_type: ClassVar[type[AppConfig]]
    policy_type: ClassVar[type[FrozenModel]]

    def __init__(self, config: ConfigT, runtime: AppRuntime) -> None:
        self.config = config
        self.runtime = runtime
        self.links = runtime.links

    async def rebuild(self) -> None:
        """Restore the twins from the bus after a restart; called before :meth:`connect`."""
        return

    async def close(self) -> None:
        """Let go of what the app itself holds, processes say; the last call, also where `rebuild` raised."""
        return

    @abstractmethod
    async def connect(self) -> None:
        """Name the inputs: call `runtime.follow_e2`, `follow_twins` and `follow_e3`."""

    @abstractmethod
    def observe(self, now_ns: int) -> StateT | None:
        """The state to decide on, or None when there is nothing to decide yet."""

    def unfit(self, state: StateT) -> Reason | None:  # noqa: ARG002
        """Why the decision must be left to the fallback (a missing model, say), or None."""
        return None

    @abstractmethod
    def decide(self, state: StateT, policy: PolicyT) -> DecisionT:
        """The decision. Runs in a worker thread outside the RT RIC; TwinRicError leads to the fallback."""

    @abstractmethod
    def fallback(self, state: StateT | None, policy: PolicyT, reason: Reason) -> DecisionT | None:
        """The safe action; never raises. None when no state has ever been seen."""

    @abstractmethod
    async def act(self, decision: DecisionT) -> None:
        """Send the controls and publish the twins. TwinRicError is counted and told in the decision record."""

    def parts(self) -> Collection[Scope]:
        """What this app looks after now, as scopes; empty while it does not know yet.

        A policy whose scope covers none of them is SCOPE_NOT_APPLICABLE; `policy.at(part)` is what holds in one.
        """
        return (Scope(),)

    def applies(self, policy: PolicyT) -> bool:  # noqa: ARG002
        """Whether the policy concerns this app for reasons other than its scope."""
        return True

    def policy_outcome(self, policy: PolicyT, decision: DecisionT) -> PolicyOutcome | None:  # noqa: ARG002
        """Whether `decision` fulfils `policy`, None where it is about other parts; asked after each cycle that was not
        a safe action.
        """
        return PolicyOutcome(enforced=True)


class AppRuntime:
    """One running app. `await run()` returns after :meth:`stop`; `wait_done` lets a simulation keep in step."""

    def __init__(self, app_type: type[App[Any, Any, Any, Any]], config: AppConfig, links: Links) -> None:
        self.spec = app_type.spec
        self.config = config
        self.links = links
        self.log = links.log
        self.metrics = links.metrics
        self.metrics.budget_ms.labels(self.spec.name).set(self.spec.budget_ms)
        self.app: App[Any, Any, Any, Any] = app_type(config, self)
        self.policies = AppPolicies(
            app_type.policy_type, self.spec, self.metrics, self.app.applies, parts=self.app.parts
        )
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.inputs: Counter[str] = Counter()
        self.late_cycles = 0
        self.e2_subscriptions = 0
        self.elapsed_ms: deque[float] = deque(maxlen=KEPT_CYCLES)
        self._cycles_under_way = 0
        self._due_ns = 0
        self._done_ns = 0
        self._last_input_s = links.clock.elapsed_s()
        self._last_state: Any = None
        self._deciding: asyncio.Future[Any] | None = None

    # Inputs ---------------------------------------------------------------------------------------------------

    def follow_e2(self, service_model: tuple[str, str], *, trigger: bytes, action: bytes, handler: E2Input) -> None:
        """Subscribe at every E2 node that offers the service model, now and later."""
        client = self.links.need_e2()
        self.e2_subscriptions += 1

        def receive(node_id: str, header: bytes, payload: bytes) -> None:
            self._receive("e2", lambda: handler(node_id, header, payload))

        self._spawn(client.follow(service_model, trigger=trigger, action=action, handler=receive))

    async def follow_twins(self, topics: tuple[str, ...], handler: TwinInput) -> None:
        """Follow twin records; the position is fixed when this returns."""

        def receive(topic: str, state: TwinState) -> None:
            self._receive("bus", lambda: handler(topic, state))

        self._spawn(await self.links.twins.following(topics, receive))

    def follow_acks(self, handler: Callable[[Ack], None]) -> None:
        """Take the answers to desired state. They are no input: an app that gets nothing else is stale."""
        self._spawn(follow_acks(self.links.bus, self.metrics, handler))

    def follow_e3(self, handler: E3Input) -> None:
        """Take the E3 indications of this dApp's subscription."""

        def receive(ran_function_id: int, data: memoryview) -> None:
            self._receive("e3", lambda: handler(ran_function_id, data))

        self._spawn(self.links.need_e3().follow(receive))

    def _receive(self, interface: str, handle: Callable[[], int | None]) -> None:
        self.metrics.count_message(interface, "in")
        try:
            due_ns = handle()
        except TwinRicError as error:
            self.metrics.count_refused(error.code)
            self.log.warning("input refused", interface=interface, fault=str(error))
            return
        finally:
            self.inputs[interface] += 1
        if due_ns is not None:
            learn_time(self.links.clock, due_ns)
        self._last_input_s = self.links.clock.elapsed_s()
        if due_ns is not None:
            self._due_ns = max(self._due_ns, due_ns)
            self._wake.set()

    # Life cycle -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, loop until :meth:`stop`, then drain. Raises what `rebuild` or `connect` raise."""
        try:
            if not await self._connected():
                return
            if self.links.policy_feed is not None:
                self._spawn(self.links.policy_feed.run(self._policy_put, self._policy_delete, self._policies_replayed))
            self._spawn(self._watch_staleness())
            self.ready.set()
            self.log.info("ready", app=self.spec.name, ric=self.spec.ric.value, budget_ms=self.spec.budget_ms)
            await self._loop()
        finally:
            self.ready.clear()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.app.close()
            await self.links.stop()
            self.log.info("stopped", app=self.spec.name)

    async def _connected(self) -> bool:
        """Start the links, rebuild, connect; False when :meth:`stop` came first, since a peer may never come up."""
        connecting = asyncio.create_task(self._connect())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
            return connecting.done()
        finally:
            for task in (connecting, stopping):
                task.cancel()
            await asyncio.gather(connecting, stopping, return_exceptions=True)

    async def _connect(self) -> None:
        await self.links.start()
        await self.app.rebuild()
        await self.app.connect()

    def wake(self) -> None:
        """Run one more cycle: the app has more to decide than one cycle took."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the cycle under way, then let :meth:`run` return."""
        self._stopping.set()
        self._wake.set()

    async def stopping(self) -> None:
        """Return once :meth:`stop` was called."""
        await self._stopping.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._input_ended)

    def _input_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("an input task died; stopping", fault=repr(task.exception()))
            self.stop()

    async def _watch_staleness(self) -> None:
        period_s = self.config.stale_after_s
        while True:
            # The clock may have gone back: a source clock does at its first input.
            now_s = self.links.clock.elapsed_s()
            self._last_input_s = min(self._last_input_s, now_s)
            await sleep_for(self.links.clock, self._last_input_s + period_s - now_s)
            now_s = self.links.clock.elapsed_s()
            self.metrics.twin_age_s.labels(self.spec.name).set(now_s - self._last_input_s)
            if now_s - self._last_input_s >= period_s:
                reason = Reason("STALE_INPUT", {"age_s": now_s - self._last_input_s, "limit_s": period_s})
                await self._cycle(reason)
                self._last_input_s = now_s

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._stopping.is_set():
                return
            due_ns = self._due_ns
            await self._cycle(None)
            async with self._progress:
                self._done_ns = max(self._done_ns, due_ns)
                self._progress.notify_all()

    @property
    def busy(self) -> bool:
        """True while a cycle is due or under way; `inputs` counts what has been handled, by interface."""
        return self._wake.is_set() or self._cycles_under_way > 0

    async def wait_done(self, source_time_ns: int) -> None:
        """Return once a cycle for an input of `source_time_ns` or later is finished."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._done_ns >= source_time_ns)

    # One cycle ------------------------------------------------------------------------------------------------

    async def _cycle(self, forced: Reason | None) -> None:
        self._cycles_under_way += 1
        try:
            await self._run_cycle(forced)
        finally:
            self._cycles_under_way -= 1

    async def _run_cycle(self, forced: Reason | None) -> None:
        deadline = Deadline(self.spec.budget_ms)
        state = self.app.observe(to_ns(self.links.clock.now_s()))
        if state is None and forced is None:
            return
        state = self._last_state if state is None else state
        self._last_state = state
        policy, version = self.policies.effective(), self.policies.version
        with trace():
            unfit = forced or self.app.unfit(state)
            decision = None
            if unfit is None:
                decision, unfit = await self._decide(state, policy, deadline)
            if unfit is not None:
                self.metrics.safe_actions.labels(self.spec.name, unfit.code).inc()
                self.log.warning("safe action", reason=unfit.code, numbers=dict(unfit.numbers))
                decision = self.app.fallback(state, policy, unfit)
            if decision is None:
                return
            decided_ms = deadline.elapsed_ms
            fault = await self._act(decision)
            self._measure(deadline)
            if unfit is None and fault is None:
                self.policies.confirm(decision, self.app.policy_outcome, self.links.policy_feed, version=version)
            self.elapsed_ms.append(decided_ms)
            if unfit is not None or fault is not None or decision.reason.code not in self.spec.quiet_reasons:
                await self._publish(decision, unfit, fault, decided_ms)

    async def _decide(self, state: Any, policy: Any, deadline: Deadline) -> tuple[Any, Reason | None]:
        """The decision, or the reason why there is none in time."""
        if self._deciding is not None and not self._deciding.done():
            return None, Reason("LATE", {"budget_ms": deadline.budget_ms}, {"why": "the last cycle still computes"})
        try:
            if self.spec.ric is Ric.RT:
                return self.app.decide(state, policy), None
            self._deciding = asyncio.ensure_future(asyncio.to_thread(self.app.decide, state, policy))
            limit_s = deadline.budget_ms / 1e3 if self.config.enforce_budget else None
            return await asyncio.wait_for(asyncio.shield(self._deciding), limit_s), None
        except TimeoutError:
            return None, Reason("LATE", {"budget_ms": deadline.budget_ms})
        except TwinRicError as error:
            return None, Reason(error.code.replace("-", "_"), details={"fault": str(error)})
        except (ArithmeticError, ValueError, LookupError) as error:
            self.log.error("decision failed", fault=repr(error), exc_info=True)
            return None, Reason("DECISION_FAILED", details={"fault": repr(error)})

    async def _act(self, decision: Any) -> TwinRicError | None:
        try:
            await self.app.act(decision)
        except TwinRicError as error:
            self.metrics.safe_actions.labels(self.spec.name, "PEER_REFUSED").inc()
            self.log.warning("action failed; the peer keeps its local control", fault=str(error))
            return error
        return None

    def _measure(self, deadline: Deadline) -> None:
        self.metrics.loop_ms.labels(self.spec.name, self.spec.ric.value).observe(deadline.elapsed_ms)
        if deadline.late:
            self.late_cycles += 1
            self.metrics.loop_late.labels(self.spec.name).inc()

    async def _publish(
        self, decision: Decided, unfit: Reason | None, fault: TwinRicError | None, decided_ms: float
    ) -> None:
        now_ns = to_ns(self.links.clock.now_s())
        reason = decision.reason
        record = DecisionRecord(
            app=self.spec.name,
            decision_id=f"{self.spec.name}/{self.config.instance_id}/{decision.source_time_ns}",
            source_time_ns=decision.source_time_ns,
            decided_time_ns=now_ns,
            elapsed_ms=decided_ms,
            reason_code=reason.code,
            safe_action=unfit is not None,
            numbers=reason.numbers,
            details={**reason.details, **({"action_fault": str(fault)} if fault else {})},
            trace_id=trace_id(),
            policy_ids=self.policies.ids(),
        )
        headers = cloudevents_headers(f"/twinric/{self.spec.name}", "twinric.decision.v1", now_ns, trace_id())
        try:
            await self.links.bus.publish(RIC_DECISIONS, self.spec.name, record.SerializeToString(), headers)
        except TwinRicError as error:
            self.log.warning("decision not published", fault=str(error))

    # Policies -------------------------------------------------------------------------------------------------

    def _policy_put(self, policy_id: str, revision: int, body: dict[str, Any]) -> None:
        self.policies.put(policy_id, revision, body, self.links.policy_feed)

    def _policy_delete(self, policy_id: str, revision: int) -> None:
        self.policies.delete(policy_id, revision)

    def _policies_replayed(self) -> None:
        self.log.info("policies restored", policy_ids=self.policies.ids())
