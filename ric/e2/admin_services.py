"""SubscriptionAdminService and E2TAdminService: what is connected and who holds what, for operators and SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from ric.e2.exchange import E2Exchange
from ric.e2.service_models import SERVICE_MODELS
from ric.e2.subscription_manager import Channel, ChannelSpec, MergedSubscription
from ric.errors import TwinRicError
from ric.pb.onos.e2t.admin import admin_pb2, admin_pb2_grpc
from ric.pb.onos.e2t.e2.v1beta1 import e2_pb2, subscription_pb2, subscription_pb2_grpc

__all__ = ["ConnectionAdministration", "SubscriptionAdministration"]

M = TypeVar("M", bound=Message)

WATCH_EVERY_S = 0.1
_ERROR_GROUPS = {
    "ric": "Ric", "ric_service": "RicService", "transport": "Transport", "protocol": "Protocol", "misc": "Misc",
}  # fmt: skip


class SubscriptionAdministration(subscription_pb2_grpc.SubscriptionAdminServiceServicer):
    """SubscriptionAdminService. Watches look every 100 ms: they are for people, not for control loops."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange

    async def GetChannel(  # noqa: N802 - the wire's names
        self,
        request: subscription_pb2.GetChannelRequest,
        context: Any,  # noqa: ARG002
    ) -> subscription_pb2.GetChannelResponse:
        """One channel. Raises TwinRicError (E2-REQUEST-UNKNOWN)."""
        return subscription_pb2.GetChannelResponse(channel=_one(self._channels(), request.channel_id, "channel_id"))

    async def ListChannels(  # noqa: N802
        self,
        request: subscription_pb2.ListChannelsRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> subscription_pb2.ListChannelsResponse:
        """Every channel."""
        return subscription_pb2.ListChannelsResponse(channels=self._channels().values())

    async def WatchChannels(  # noqa: N802
        self,
        request: subscription_pb2.WatchChannelsRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[subscription_pb2.WatchChannelsResponse]:
        """What stands (unless no_replay), then every change."""
        async for kind, channel in _changes(self._channels, replay=not request.no_replay):
            event = subscription_pb2.ChannelEvent(type=cast(Any, kind), channel=channel)
            yield subscription_pb2.WatchChannelsResponse(event=event)

    async def GetSubscription(  # noqa: N802
        self,
        request: subscription_pb2.GetSubscriptionRequest,
        context: Any,  # noqa: ARG002
    ) -> subscription_pb2.GetSubscriptionResponse:
        """One subscription. Raises TwinRicError (E2-REQUEST-UNKNOWN)."""
        found = _one(self._subscriptions(), request.subscription_id, "subscription_id")
        return subscription_pb2.GetSubscriptionResponse(subscription=found)

    async def ListSubscriptions(  # noqa: N802
        self,
        request: subscription_pb2.ListSubscriptionsRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> subscription_pb2.ListSubscriptionsResponse:
        """Every subscription at a node."""
        return subscription_pb2.ListSubscriptionsResponse(subscriptions=self._subscriptions().values())

    async def WatchSubscriptions(  # noqa: N802
        self,
        request: subscription_pb2.WatchSubscriptionsRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[subscription_pb2.WatchSubscriptionsResponse]:
        """What stands (unless no_replay), then every change."""
        async for kind, subscription in _changes(self._subscriptions, replay=not request.no_replay):
            event = subscription_pb2.SubscriptionEvent(type=cast(Any, kind), subscription=subscription)
            yield subscription_pb2.WatchSubscriptionsResponse(event=event)

    def _channels(self) -> dict[str, subscription_pb2.Channel]:
        manager = self._exchange.manager
        return {each.channel_id: _channel(each, manager.subscription_of(each)) for each in manager.channels()}

    def _subscriptions(self) -> dict[str, subscription_pb2.Subscription]:
        return {each.subscription_id: _subscription(each) for each in self._exchange.manager.subscriptions()}


class ConnectionAdministration(admin_pb2_grpc.E2TAdminServiceServicer):
    """E2TAdminService: connected nodes and known service models."""

    def __init__(self, exchange: E2Exchange) -> None:
        self._exchange = exchange

    async def UploadRegisterServiceModel(  # noqa: N802
        self,
        request_iterator: Any,  # noqa: ARG002
        context: Any,
    ) -> admin_pb2.UploadRegisterServiceModelResponse:
        """UNIMPLEMENTED, always."""
        why = "Service models are part of the RIC: name one by its object identifier to use it without the RIC's help."
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)
        raise AssertionError(why)

    async def ListRegisteredServiceModels(  # noqa: N802
        self,
        request: admin_pb2.ListRegisteredServiceModelsRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[admin_pb2.ListRegisteredServiceModelsResponse]:
        """Service models that the RIC knows by name."""
        for name, version in SERVICE_MODELS:
            if request.model_name in ("", name) and request.model_version in ("", version):
                yield admin_pb2.ListRegisteredServiceModelsResponse(name=name, version=version)

    async def ListE2NodeConnections(  # noqa: N802
        self,
        request: admin_pb2.ListE2NodeConnectionsRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[admin_pb2.ListE2NodeConnectionsResponse]:
        """Every connected E2 node with its RAN functions."""
        termination = self._exchange.termination
        for e2_node_id, view in list(termination.nodes.items()):
            try:
                peer, age_s = termination.peer(e2_node_id)
            except TwinRicError:
                continue  # lost since the list was made
            host, port = _host_and_port(peer)
            yield admin_pb2.ListE2NodeConnectionsResponse(
                id=e2_node_id,
                remote_ip=[host],
                remote_port=port,
                node_id=f"{view.identity.gnb_id:x}",
                plmn_id=view.identity.plmn_id,
                connection_type=admin_pb2.G_NB,
                ran_functions=[
                    admin_pb2.RANFunction(
                        oid=each.oid, ran_function_id=str(each.ran_function_id), description=each.definition
                    )
                    for each in view.functions
                ],
                age_ms=min(round(age_s * 1e3), (1 << 31) - 1),
            )

    async def DropE2NodeConnections(  # noqa: N802
        self,
        request: admin_pb2.DropE2NodeConnectionsRequest,
        context: Any,  # noqa: ARG002
    ) -> admin_pb2.DropE2NodeConnectionsResponse:
        """Close the named connections; false for a node that is not connected."""
        done = []
        for connection in request.connections:
            error = TwinRicError("E2-LOST", "e2_node_id", connection.id, "a connection that the operator keeps")
            try:
                self._exchange.termination.drop(connection.id, error)
                done.append(True)
            except TwinRicError:
                done.append(False)
        return admin_pb2.DropE2NodeConnectionsResponse(success=done)


def _one(items: Mapping[str, M], name: str, field: str) -> M:
    if name not in items:
        raise TwinRicError("E2-REQUEST-UNKNOWN", field, name, ", ".join(sorted(items)[:20]) or "none is open")
    return items[name]


async def _changes(snapshot: Callable[[], dict[str, M]], *, replay: bool) -> AsyncIterator[tuple[int, M]]:
    """Event type (1 created, 2 updated, 3 deleted, 4 replayed) and object, from one snapshot to the next."""
    known = snapshot()
    if replay:
        for item in known.values():
            yield subscription_pb2.CHANNEL_REPLAYED, item
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        before, known = known, snapshot()
        for name, item in known.items():
            if name not in before:
                yield subscription_pb2.CHANNEL_CREATED, item
            elif before[name] != item:
                yield subscription_pb2.CHANNEL_UPDATED, item
        for name, item in before.items():
            if name not in known:
                yield subscription_pb2.CHANNEL_DELETED, item


def _channel(channel: Channel, subscription: MergedSubscription | None) -> subscription_pb2.Channel:
    identity = channel.identity
    meta = subscription_pb2.ChannelMeta(
        app_id=identity.app_id, app_instance_id=identity.instance_id, e2_node_id=identity.e2_node_id,
        transaction_id=identity.transaction_id, subscription_id=channel.subscription_id,
        service_model=_model(channel.spec), encoding=e2_pb2.PROTO, revision=channel.generation,
    )  # fmt: skip
    status = subscription_pb2.ChannelStatus(phase=subscription_pb2.CHANNEL_OPEN)
    if channel.error is not None:
        status.state = subscription_pb2.CHANNEL_FAILED
        status.error.CopyFrom(_error(channel.error))
    elif subscription is not None and subscription.is_in_force:
        status.state = subscription_pb2.CHANNEL_COMPLETE
    spec = subscription_pb2.ChannelSpec(subscription=_spec(channel.spec))
    return subscription_pb2.Channel(id=channel.channel_id, meta=meta, spec=spec, status=status)


def _subscription(subscription: MergedSubscription) -> subscription_pb2.Subscription:
    in_force = subscription.is_in_force
    status = subscription_pb2.SubscriptionStatus(
        phase=subscription_pb2.SUBSCRIPTION_OPEN,
        state=subscription_pb2.SUBSCRIPTION_COMPLETE if in_force else subscription_pb2.SUBSCRIPTION_PENDING,
        channels=subscription.channels,
    )
    meta = subscription_pb2.SubscriptionMeta(
        e2_node_id=subscription.spec.e2_node_id, service_model=_model(subscription.spec), encoding=e2_pb2.PROTO,
        revision=subscription.revision,
    )  # fmt: skip
    return subscription_pb2.Subscription(
        id=subscription.subscription_id, meta=meta, spec=_spec(subscription.spec), status=status
    )


def _model(spec: ChannelSpec) -> e2_pb2.ServiceModel:
    return e2_pb2.ServiceModel(name=spec.service_model[0], version=spec.service_model[1])


def _spec(spec: ChannelSpec) -> subscription_pb2.SubscriptionSpec:
    return subscription_pb2.SubscriptionSpec(
        event_trigger=subscription_pb2.EventTrigger(payload=spec.event_trigger),
        actions=[
            subscription_pb2.Action(id=each.ric_action_id, type=cast(Any, each.type), payload=each.definition)
            for each in spec.actions
        ],
    )


def _error(error: TwinRicError) -> e2_pb2.Error:
    """The SD-RAN error with the same cause, UNSPECIFIED where its enumeration has no such value."""
    group, value = error.row.cause
    name = value.upper().replace("-", "_")
    cause = e2_pb2.Error.Cause()
    if group in _ERROR_GROUPS:
        types = getattr(e2_pb2.Error.Cause, _ERROR_GROUPS[group]).Type
        part = getattr(cause, group)
        part.SetInParent()
        part.type = dict(types.items()).get(name, 0)
    else:
        cause.unknown.SetInParent()
    return e2_pb2.Error(cause=cause)


def _host_and_port(peer: str) -> tuple[str, int]:
    """Host and port of a gRPC peer such as "ipv4:127.0.0.1:50000" or "ipv6:[::1]:50000"."""
    address = peer.partition(":")[2]
    host, _, port = address.rpartition(":")
    return host.strip("[]").replace("%5B", "").replace("%5D", ""), int(port) if port.isdigit() else 0
