"""Between E2 nodes and whoever asks of them: merged subscriptions, verified controls, conflict mitigation.

gRPC servicers and the RIC's own subscribers call the same methods.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ric.clock import Clock, WallClock
from ric.e2.conflict_mitigation import ConflictMitigation
from ric.e2.controls import ControlCall, ControlSink, DecisionSink, RicControls
from ric.e2.following import Following
from ric.e2.identities import NodeView, RicRequestId
from ric.e2.service_models import ServiceModelId, model_of
from ric.e2.subscription_manager import (
    Channel,
    ChannelIdentity,
    ChannelSpec,
    MergedSubscription,
    SubscriptionAction,
    SubscriptionManager,
)  # fmt: skip
from ric.e2.termination import E2Termination
from ric.e2sm import dapp
from ric.errors import TwinRicError
from ric.telemetry import Metrics, logger

__all__ = ["E2Exchange", "IndicationSink"]

IndicationSink = Callable[[str, bytes, bytes], Awaitable[None] | None]
"""Called with (E2 node id, indication header, indication message); a coroutine function is awaited."""

RIC_APP_ID = "ric"
EXPIRE_EVERY_S = 0.25


class E2Exchange:
    """Everything between E2 nodes and xApps but the sockets towards xApps. `clock` times the conflict holds.

    `priorities` (app id -> priority of its controls, larger wins) and `hold_s` are what stands until a policy says
    otherwise: `conflicts.configure`.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        *,
        priorities: Mapping[str, int] | None = None,
        hold_s: float = 1.0,
        linger_s: float = 2.0,
        queue_length: int = 256,
        on_decision: DecisionSink | None = None,
        on_control: ControlSink | None = None,
    ) -> None:
        self.metrics = metrics
        self.clock = clock
        self.termination = E2Termination(metrics, self)
        self.manager = SubscriptionManager(queue_length=queue_length, linger_s=linger_s)
        self.conflicts = ConflictMitigation(priorities or {}, hold_s=hold_s)
        self.controls = RicControls(
            self.termination, metrics, clock, self.conflicts, on_decision=on_decision, on_control=on_control
        )
        self._log = logger("e2_platform")
        self._openings: dict[str, asyncio.Task[None]] = {}
        self._internal: list[_Internal] = []
        self._followings: list[Following] = []
        self.is_paced = isinstance(clock, WallClock)  # simulated time does not wait for real time
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """Start what runs by itself: ending channels whose readers stay away."""
        self._spawn(self._expire())

    async def end(self) -> None:
        """Stop that, and close every node's connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.controls.stop()
        self.termination.close_all()

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            for subscription in self.manager.expire(asyncio.get_running_loop().time()):
                self._spawn(self._delete(subscription))

    # Subscriptions ----------------------------------------------------------------------------------------------------

    async def indications(
        self,
        identity: ChannelIdentity,
        service_model: ServiceModelId,
        trigger: bytes,
        actions: tuple[SubscriptionAction, ...],
    ) -> AsyncGenerator[Channel | tuple[bytes, bytes], None]:
        """The channel once the node has admitted the subscription, then its indications (header, message).

        Ends when the channel is unsubscribed. Raises TwinRicError when the subscription is refused, when the node is
        lost, or when another reader takes the channel over.
        """
        oid = model_of(service_model).oid
        self.termination.node(identity.e2_node_id).function_of(oid)
        spec = ChannelSpec(identity.e2_node_id, oid, service_model, trigger, actions)
        ready = asyncio.Event()
        channel, subscription, generation = self.manager.attach(identity, spec, ready.set)
        try:
            await self.opened(subscription)
            yield channel
            while not channel.is_closed:
                ready.clear()
                if channel.generation != generation:
                    remedy = "Another reader uses the same transaction id."
                    raise TwinRicError("E2-STATE", "transaction_id", identity.transaction_id, "one reader", remedy)
                if (indication := channel.take()) is not None:
                    yield indication
                elif channel.error is not None:
                    raise channel.error
                else:
                    await ready.wait()
        finally:
            self.manager.detach(channel, generation, asyncio.get_running_loop().time())

    async def unsubscribe(self, identity: ChannelIdentity) -> None:
        """End a channel, and with the last one the node's subscription. Raises TwinRicError (E2-REQUEST-UNKNOWN)."""
        subscription = self.manager.remove(identity)
        if subscription is not None:
            await self._delete(subscription)

    async def opened(self, subscription: MergedSubscription) -> None:
        """Return once the node has the subscription in force; the first caller asks, the others wait with it."""
        if subscription.is_in_force:
            return
        opening = self._openings.get(subscription.subscription_id)
        if opening is None:
            opening = self._spawn(self._open(subscription))
            self._openings[subscription.subscription_id] = opening
            opening.add_done_callback(lambda _: self._openings.pop(subscription.subscription_id, None))
        await asyncio.shield(opening)

    async def _open(self, subscription: MergedSubscription) -> None:
        spec = subscription.spec
        if not subscription.channels:
            return
        try:
            function = self.termination.node(spec.e2_node_id).function_of(spec.oid)
            request, answer = self.termination.begin_subscription(
                spec.e2_node_id, function.ran_function_id, spec.event_trigger, spec.actions
            )
            self.manager.requested(subscription, request, function.ran_function_id)
            await answer
        except TwinRicError as error:
            self.metrics.count_refused(error.code)
            if error.code != "E2-LOST":  # then the channels wait for the node's return
                self.manager.refused(subscription, error)
            raise
        if subscription.request == request:
            self.manager.admitted(subscription)

    async def _reopen(self, subscription: MergedSubscription) -> None:
        try:
            await self.opened(subscription)
        except TwinRicError as error:
            self._log.warning("not subscribed again", subscription=subscription.subscription_id, fault=str(error))

    async def _delete(self, subscription: MergedSubscription) -> None:
        request = subscription.request
        if request is None:
            return
        try:
            await self.termination.delete_subscription(subscription.spec.e2_node_id, request)
        except TwinRicError as error:
            self._log.info("subscription not deleted at the node", request=str(request), fault=str(error))

    @contextmanager
    def follow(
        self,
        app: tuple[str, str],
        transaction_id: str,
        service_model: ServiceModelId,
        terms: tuple[bytes, tuple[SubscriptionAction, ...]],
    ) -> Iterator[Following]:
        """A subscription with `terms` (trigger, actions) at every node, now and later, for `app` (id, instance).

        Raises TwinRicError (E2-FUNCTION-UNKNOWN) for a service model that cannot be named.
        """
        following = Following(self, app, transaction_id, service_model, terms)
        self._followings.append(following)
        following.start()
        try:
            yield following
        finally:
            self._followings.remove(following)
            following.stop()

    def subscribe_internal(
        self,
        service_model: ServiceModelId,
        trigger: bytes,
        actions: tuple[SubscriptionAction, ...],
        handler: IndicationSink,
    ) -> None:
        """Hand `handler` the indications of every node that offers the service model, now and later.

        TwinRicError of the handler is counted and logged, and the subscription goes on.
        """
        internal = _Internal(f"internal-{len(self._internal)}", service_model, trigger, actions, handler)
        self._internal.append(internal)
        for view in self.termination.nodes.values():
            self._follow(internal, view)

    def on_dapp_report(self, callback: IndicationSink) -> None:
        """Hand `callback` every dApp report of every node (`ric.e2sm.dapp.decode_indication` reads it)."""
        self.subscribe_internal((dapp.NAME, dapp.VERSION), b"", (SubscriptionAction(0, 0, b""),), callback)

    def _follow(self, internal: _Internal, view: NodeView) -> None:
        oid = model_of(internal.service_model).oid
        if view.e2_node_id in internal.following or all(function.oid != oid for function in view.functions):
            return
        internal.following.add(view.e2_node_id)
        task = self._spawn(self._feed(internal, view.e2_node_id))
        task.add_done_callback(lambda _: internal.following.discard(view.e2_node_id))

    async def _feed(self, internal: _Internal, e2_node_id: str) -> None:
        identity = ChannelIdentity(RIC_APP_ID, RIC_APP_ID, e2_node_id, internal.name)
        try:
            async for item in self.indications(identity, internal.service_model, internal.trigger, internal.actions):
                if not isinstance(item, Channel):
                    await self._hand_over(internal, e2_node_id, item)
        except TwinRicError as error:
            self._log.info("internal subscription ended", e2_node_id=e2_node_id, fault=str(error))

    async def _hand_over(self, internal: _Internal, e2_node_id: str, indication: tuple[bytes, bytes]) -> None:
        try:
            result = internal.handler(e2_node_id, *indication)
            if inspect.isawaitable(result):
                await result
        except TwinRicError as error:
            self.metrics.count_refused(error.code)
            self._log.warning("indication refused", e2_node_id=e2_node_id, fault=str(error))

    # Control ----------------------------------------------------------------------------------------------------------

    async def control(self, call: ControlCall, deadline_s: float) -> bytes:
        """RIC Control: returns once the value is in force at the node, and returns that value.

        Raises TwinRicError: E2-CONFLICT, E2-UNVERIFIED, E2-DEADLINE, what the node refused, E2-LOST and the unknowns.
        """
        return await self.controls.control(call, deadline_s)

    # What the termination tells ---------------------------------------------------------------------------------------

    def node_ready(self, view: NodeView) -> None:
        """Subscribe (again) what waits for this node; end what it does not offer any more."""
        offered = {function.oid: function.ran_function_id for function in view.functions}
        for subscription in list(self.manager.subscriptions()):
            if subscription.spec.e2_node_id != view.e2_node_id:
                continue
            if subscription.spec.oid not in offered:
                accepted = "a RAN function that the node still offers"
                error = TwinRicError("E2-FUNCTION-UNKNOWN", "service_model", subscription.spec.oid, accepted)
                self.manager.refused(subscription, error)
            elif subscription.request is not None and subscription.ran_function_id not in offered.values():
                self.manager.function_lost(subscription)  # another function offers the same service model
        for subscription in self.manager.node_ready(view.e2_node_id):
            self._spawn(self._reopen(subscription))
        for internal in self._internal:
            self._follow(internal, view)
        for following in self._followings:
            following.node_ready(view)
        self._announce()

    def node_reset(self, view: NodeView) -> None:
        """Subscribe again; the channels stay open."""
        for subscription in self.manager.node_reset(view.e2_node_id):
            self._spawn(self._reopen(subscription))

    def node_lost(self, view: NodeView, error: TwinRicError) -> None:
        """End the streams of the node's xApps with the cause."""
        self.controls.node_lost(view.e2_node_id)
        self.manager.node_lost(view.e2_node_id, error, asyncio.get_running_loop().time())
        self._announce()

    def indication(self, e2_node_id: str, request: RicRequestId, header: bytes, message: bytes) -> None:
        """Fan an indication out."""
        subscription = self.manager.at_request(e2_node_id, request)
        if subscription is None:
            return
        dropped = self.manager.deliver(subscription, header, message)
        if dropped:
            self.metrics.count_dropped("e2_subscriber", dropped)
        oid = subscription.spec.oid
        if self.controls.verification.watches(e2_node_id, oid):  # once those are under way that wait for the indication
            asyncio.get_running_loop().call_soon(self.controls.reported, e2_node_id, oid, header, message)

    async def node_change(self) -> None:
        """Return when a node connected, changed its functions or was lost, after this call."""
        await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class _Internal:
    name: str
    service_model: ServiceModelId
    trigger: bytes
    actions: tuple[SubscriptionAction, ...]
    handler: IndicationSink

    def __post_init__(self) -> None:
        self.following: set[str] = set()
