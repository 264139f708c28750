"""onos.e2t.e2.v1beta1 towards xApps: translation between the wire and :class:`~ric.e2.exchange.E2Exchange`.

Errors leave as TwinRicError; the server's interceptor turns them into gRPC status, details and trailing metadata.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ric.e2.admin_services import ConnectionAdministration, SubscriptionAdministration
from ric.e2.exchange import ControlCall, E2Exchange
from ric.e2.subscription_manager import Channel, ChannelIdentity, SubscriptionAction
from ric.errors import Fault, TwinRicError
from ric.pb.onos.e2t.admin import admin_pb2_grpc
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2, control_pb2_grpc, e2_pb2, subscription_pb2, subscription_pb2_grpc

__all__ = ["add_e2_services"]

CONTROL_DEADLINE_S = 1.0
REPLY_MARGIN_S = 0.01
MAX_ACTIONS = 16
MAX_ID_CHARACTERS = 256


def add_e2_services(server: grpc.aio.Server, exchange: E2Exchange) -> None:
    """Offer the xApp services of `exchange` on a server that is not started yet."""
    subscription_pb2_grpc.add_SubscriptionServiceServicer_to_server(Subscriptions(exchange), server)
    subscription_pb2_grpc.add_SubscriptionAdminServiceServicer_to_server(SubscriptionAdministration(exchange), server)
    control_pb2_grpc.add_ControlServiceServicer_to_server(Controls(exchange), server)
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


class Controls(control_pb2_grpc.ControlServiceServicer):
    """ControlService: one call per RIC Control."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange
        self._run_id = uuid.uuid4().hex[:8]
        self._numbers = itertools.count(1)

    async def Control(  # noqa: N802
        self, request: control_pb2.ControlRequest, context: Any
    ) -> control_pb2.ControlResponse:
        """Return once the value is in force, within the caller's deadline and at most a second."""
        identity = _identity(request.headers, "control")
        remaining_s = context.time_remaining()
        deadline_s = CONTROL_DEADLINE_S
        if remaining_s is not None:
            deadline_s = min(deadline_s, max(remaining_s - REPLY_MARGIN_S, 0.0))
        call_process_id = request.call_process_id.hex() or f"{self._run_id}-{next(self._numbers)}"
        call = ControlCall(
            identity.app_id, identity.e2_node_id, _service_model(request.headers), call_process_id,
            request.message.header, request.message.payload,
        )  # fmt: skip
        outcome = await self._exchange.control(call, deadline_s)
        return control_pb2.ControlResponse(
            headers=e2_pb2.ResponseHeaders(encoding=request.headers.encoding),
            outcome=control_pb2.ControlOutcome(payload=outcome),
        )


def _identity(headers: e2_pb2.RequestHeaders, transaction_id: str) -> ChannelIdentity:
    faults = [
        Fault("E2-RANGE", field, value, f"1..{MAX_ID_CHARACTERS} characters")
        for field, value in (
            ("headers.app_id", headers.app_id),
            ("headers.e2_node_id", headers.e2_node_id),
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
    return ChannelIdentity(headers.app_id, headers.app_instance_id, headers.e2_node_id, transaction_id)


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
