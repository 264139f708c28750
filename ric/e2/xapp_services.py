"""onos.e2t.e2.v1beta1 and our control stream towards xApps: between the wire and :class:`~ric.e2.exchange.E2Exchange`.

Errors leave as TwinRicError; the server's interceptor turns them into gRPC status, details and trailing metadata.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeAlias

import grpc

from ric.e2.admin_services import ConnectionAdministration, SubscriptionAdministration
from ric.e2.control_stream import faults_of
from ric.e2.controls import ControlCall
from ric.e2.exchange import E2Exchange
from ric.e2.following import Batch
from ric.e2.subscription_manager import Channel, ChannelIdentity, SubscriptionAction
from ric.errors import Fault, TwinRicError
from ric.pb.onos.e2t.admin import admin_pb2_grpc
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2, control_pb2_grpc, e2_pb2, subscription_pb2, subscription_pb2_grpc
from ric.pb.twinric.xapp.v1 import controls_pb2, controls_pb2_grpc, indications_pb2, indications_pb2_grpc
from ric.telemetry import logger

__all__ = ["add_e2_services"]

CONTROL_DEADLINE_S = 1.0
REPLY_MARGIN_S = 0.01
MAX_ACTIONS = 16
MAX_ID_CHARACTERS = 256
MAX_CONTROLS = 1_024
NO_ACK_KEY = "twinric-no-ack"

Answers: TypeAlias = "asyncio.Queue[controls_pb2.ControlAnswer | TwinRicError | None]"
"""What a control stream has yet to say; None ends it, an error ends it with a status."""


def add_e2_services(server: grpc.aio.Server, exchange: E2Exchange) -> None:
    """Offer the xApp services of `exchange` on a server that is not started yet."""
    subscription_pb2_grpc.add_SubscriptionServiceServicer_to_server(Subscriptions(exchange), server)
    subscription_pb2_grpc.add_SubscriptionAdminServiceServicer_to_server(SubscriptionAdministration(exchange), server)
    indications_pb2_grpc.add_IndicationStreamServicer_to_server(IndicationStreams(exchange), server)
    controls = Controls(exchange)
    control_pb2_grpc.add_ControlServiceServicer_to_server(controls, server)
    controls_pb2_grpc.add_ControlStreamServicer_to_server(ControlStreams(controls, exchange), server)
    admin_pb2_grpc.add_E2TAdminServiceServicer_to_server(ConnectionAdministration(exchange), server)


class Subscriptions(subscription_pb2_grpc.SubscriptionServiceServicer):
    """SubscriptionService: a stream per channel."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange

    async def Subscribe(  # noqa: N802 - the wire's name
        self,
        request: subscription_pb2.SubscribeRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[subscription_pb2.SubscribeResponse]:
        """Acknowledgement once the node admitted the subscription, then indications until the caller leaves."""
        identity = _identity(request.headers, request.transaction_id)
        actions = _actions(request.subscription)
        items = self._exchange.indications(
            identity, _service_model(request.headers), request.subscription.event_trigger.payload, actions
        )
        headers = e2_pb2.ResponseHeaders(encoding=request.headers.encoding)
        async with contextlib.aclosing(items):
            async for item in items:
                if isinstance(item, Channel):
                    ack = subscription_pb2.Acknowledgement(channel_id=item.channel_id)
                    yield subscription_pb2.SubscribeResponse(headers=headers, ack=ack)
                else:
                    indication = subscription_pb2.Indication(header=item[0], payload=item[1])
                    yield subscription_pb2.SubscribeResponse(headers=headers, indication=indication)

    async def Unsubscribe(  # noqa: N802
        self,
        request: subscription_pb2.UnsubscribeRequest,
        context: Any,  # noqa: ARG002
    ) -> subscription_pb2.UnsubscribeResponse:
        """The channel ends; the node's subscription too, when nobody shares it."""
        await self._exchange.unsubscribe(_identity(request.headers, request.transaction_id))
        return subscription_pb2.UnsubscribeResponse(headers=e2_pb2.ResponseHeaders(encoding=request.headers.encoding))


class IndicationStreams(indications_pb2_grpc.IndicationStreamServicer):
    """IndicationStream: one stream for the indications of all nodes."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange

    async def Follow(  # noqa: N802
        self,
        request: indications_pb2.FollowRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[indications_pb2.IndicationBatch]:
        """What waits, each time that the caller takes a message; ends when the caller leaves."""
        headers = request.headers
        if headers.e2_node_id:
            raise TwinRicError("E2-RANGE", "headers.e2_node_id", headers.e2_node_id, "empty: every node is followed")
        app_id, instance_id, _, transaction_id = _identity(headers, request.transaction_id, node="(every)")
        terms = request.subscription.event_trigger.payload, _actions(request.subscription)
        with self._exchange.follow((app_id, instance_id), transaction_id, _service_model(headers), terms) as following:
            async with contextlib.aclosing(following.batches()) as batches:
                async for batch in batches:
                    yield _batch(batch)


def _batch(batch: Batch) -> indications_pb2.IndicationBatch:
    message = indications_pb2.IndicationBatch()
    add = message.indications.add
    for e2_node_id, header, payload in batch.indications:
        add(e2_node_id=e2_node_id, header=header, payload=payload)
    for e2_node_id, error in batch.failures:
        message.failures.add(e2_node_id=e2_node_id, failure=faults_of(error))
    return message


class Controls(control_pb2_grpc.ControlServiceServicer):
    """ControlService: one call per RIC Control."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange
        self._run_id = uuid.uuid4().hex[:8]
        self._numbers = itertools.count(1)

    async def Control(  # noqa: N802
        self, request: control_pb2.ControlRequest, context: Any
    ) -> control_pb2.ControlResponse:
        """Return once the value is in force, within the caller's deadline and at most a second.

        With the metadata `twinric-no-ack: true`, return once the control has left for the node.
        """
        remaining_s = context.time_remaining()
        deadline_s = CONTROL_DEADLINE_S
        if remaining_s is not None:
            deadline_s = min(deadline_s, max(remaining_s - REPLY_MARGIN_S, 0.0))
        no_ack = (NO_ACK_KEY, "true") in (context.invocation_metadata() or ())
        return await self.controlled(request, deadline_s, no_ack=no_ack)

    async def controlled(
        self, request: control_pb2.ControlRequest, deadline_s: float, *, no_ack: bool
    ) -> control_pb2.ControlResponse:
        """The response to one control, however it came. Raises TwinRicError as :meth:`E2Exchange.control` does."""
        identity = _identity(request.headers, "control")
        call_process_id = request.call_process_id.hex() or f"{self._run_id}-{next(self._numbers)}"
        call = ControlCall(
            identity.app_id, identity.e2_node_id, _service_model(request.headers), call_process_id,
            request.message.header, request.message.payload, no_ack,
        )  # fmt: skip
        outcome = await self._exchange.control(call, deadline_s)
        return control_pb2.ControlResponse(
            headers=e2_pb2.ResponseHeaders(encoding=request.headers.encoding),
            outcome=control_pb2.ControlOutcome(payload=outcome),
        )


class ControlStreams(controls_pb2_grpc.ControlStreamServicer):
    """ControlStream: the controls of one xApp on one stream, served side by side."""

    def __init__(self, controls: Controls, exchange: E2Exchange) -> None:
        self._controls = controls
        self._metrics = exchange.metrics
        self._log = logger("xapp_services")

    async def Open(  # noqa: N802
        self,
        request_iterator: AsyncIterator[controls_pb2.ControlAsk],
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[controls_pb2.ControlAnswer]:
        """An answer per control, as they are ready; octets that are no ControlAsk end the stream (E2-MALFORMED)."""
        answers: Answers = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()
        _spawn(self._read(request_iterator, answers, tasks), tasks)
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, TwinRicError):
                    raise answer
                yield answer
        finally:
            for task in tasks:
                task.cancel()

    async def _read(
        self,
        asks: AsyncIterator[controls_pb2.ControlAsk],
        answers: Answers,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        try:
            async for ask in asks:
                if len(tasks) > MAX_CONTROLS:
                    error = TwinRicError("LIMIT-RATE", "controls", len(tasks), f"at most {MAX_CONTROLS} under way")
                    answers.put_nowait(self._failure(ask, error))
                else:
                    _spawn(self._serve(ask, answers), tasks)
        except TwinRicError as error:  # octets that are no ControlAsk
            answers.put_nowait(error)
            return
        await asyncio.gather(*(task for task in tasks if task is not asyncio.current_task()))
        answers.put_nowait(None)

    async def _serve(self, ask: controls_pb2.ControlAsk, answers: Answers) -> None:
        try:
            deadline_s = min(ask.deadline_ms / 1e3 or CONTROL_DEADLINE_S, CONTROL_DEADLINE_S)
            response = await self._controls.controlled(ask.request, deadline_s, no_ack=ask.no_ack)
            answers.put_nowait(controls_pb2.ControlAnswer(number=ask.number, response=response))
        except TwinRicError as error:
            answers.put_nowait(self._failure(ask, error))
        except Exception as error:  # noqa: BLE001 - one control's failure must not end the others' stream
            self._log.error("control failed unexpectedly", fault=repr(error), exc_info=error)
            known = TwinRicError(
                "INTERNAL", "control", type(error).__name__, "none of this", "The log has the details."
            )
            answers.put_nowait(self._failure(ask, known))

    def _failure(self, ask: controls_pb2.ControlAsk, error: TwinRicError) -> controls_pb2.ControlAnswer:
        self._metrics.count_refused(error.code)
        return controls_pb2.ControlAnswer(number=ask.number, failure=faults_of(error))


def _spawn(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)


def _identity(headers: e2_pb2.RequestHeaders, transaction_id: str, *, node: str = "") -> ChannelIdentity:
    """Who asks; `node` stands in for a node id that the request has no use for. Raises TwinRicError (E2-RANGE)."""
    e2_node_id = node or headers.e2_node_id
    faults = [
        Fault("E2-RANGE", field, value, f"1..{MAX_ID_CHARACTERS} characters")
        for field, value in (
            ("headers.app_id", headers.app_id),
            ("headers.e2_node_id", e2_node_id),
            ("transaction_id", transaction_id),
        )
        if not 1 <= len(value) <= MAX_ID_CHARACTERS
    ]
    if len(headers.app_instance_id) > MAX_ID_CHARACTERS:
        accepted = f"at most {MAX_ID_CHARACTERS} characters"
        faults.append(Fault("E2-RANGE", "headers.app_instance_id", headers.app_instance_id, accepted))
    if headers.encoding != e2_pb2.PROTO:
        accepted = "PROTO: payloads are protobuf or JSON, never ASN.1"
        faults.append(Fault("E2-RANGE", "headers.encoding", headers.encoding, accepted))
    if faults:
        raise TwinRicError.of(faults)
    return ChannelIdentity(headers.app_id, headers.app_instance_id, e2_node_id, transaction_id)


def _service_model(headers: e2_pb2.RequestHeaders) -> tuple[str, str]:
    return headers.service_model.name, headers.service_model.version


def _actions(subscription: subscription_pb2.SubscriptionSpec) -> tuple[SubscriptionAction, ...]:
    actions = tuple(SubscriptionAction(each.id, each.type, each.payload) for each in subscription.actions)
    ids = [action.ric_action_id for action in actions]
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise TwinRicError("E2-ACTION", "subscription.actions", len(actions), f"1..{MAX_ACTIONS} actions")
    if len(set(ids)) != len(ids) or min(ids) < 0 or max(ids) > 255:
        raise TwinRicError("E2-ACTION", "subscription.actions.id", ids, "different ids, 0..255")
    if any(action.type not in subscription_pb2.ActionType.values() for action in actions):
        accepted = ", ".join(subscription_pb2.ActionType.keys())
        raise TwinRicError("E2-ACTION", "subscription.actions.type", [a.type for a in actions], accepted)
    return actions
