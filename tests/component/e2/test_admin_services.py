"""Administration over gRPC with the generated stubs, and ids that the services refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from ric.e2sm import kpm
from ric.pb.onos.e2t.admin import admin_pb2, admin_pb2_grpc
from ric.pb.onos.e2t.e2.v1beta1 import e2_pb2, subscription_pb2, subscription_pb2_grpc


@pytest.fixture
async def channel(house) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.ports.xapps}") as opened:
        yield opened


def request(node: str, actions: list[subscription_pb2.Action], **headers: object) -> subscription_pb2.SubscribeRequest:
    content = {
        "app_id": "xapp", "e2_node_id": node, "service_model": e2_pb2.ServiceModel(name=kpm.NAME, version=kpm.VERSION)
    }  # fmt: skip
    return subscription_pb2.SubscribeRequest(
        headers=e2_pb2.RequestHeaders(**(content | headers)), transaction_id="t",
        subscription=subscription_pb2.SubscriptionSpec(
            event_trigger=subscription_pb2.EventTrigger(payload=kpm.encode_trigger(100)), actions=actions
        ),
    )  # fmt: skip


async def test_admin_lists_gets_and_watches_channels_and_subscriptions(house, channel) -> None:
    node = await house.node()
    admin = subscription_pb2_grpc.SubscriptionAdminServiceStub(channel)
    watch = admin.WatchChannels(subscription_pb2.WatchChannelsRequest())
    changes = aiter(watch)
    stream = subscription_pb2_grpc.SubscriptionServiceStub(channel).Subscribe(
        request(node.name, [subscription_pb2.Action(id=3, payload=b"")])
    )
    ack = (await aiter(stream).__anext__()).ack
    event = (await asyncio.wait_for(anext(changes), 5.0)).event
    assert event.type in (subscription_pb2.CHANNEL_CREATED, subscription_pb2.CHANNEL_REPLAYED)
    assert event.channel.id == ack.channel_id
    (listed,) = (await admin.ListChannels(subscription_pb2.ListChannelsRequest())).channels
    assert (listed.meta.app_id, listed.meta.e2_node_id, listed.meta.transaction_id) == ("xapp", node.name, "t")
    assert listed.status.state == subscription_pb2.CHANNEL_COMPLETE
    got = await admin.GetChannel(subscription_pb2.GetChannelRequest(channel_id=ack.channel_id))
    assert got.channel == listed
    (shared,) = (await admin.ListSubscriptions(subscription_pb2.ListSubscriptionsRequest())).subscriptions
    assert list(shared.status.channels) == [ack.channel_id]
    assert shared.spec.actions[0].id == 3
    name = subscription_pb2.GetSubscriptionRequest(subscription_id=shared.id)
    assert (await admin.GetSubscription(name)).subscription == shared
    await node.connection.stop()
    async with asyncio.timeout(5.0):
        while event.channel.status.state != subscription_pb2.CHANNEL_FAILED:
            event = (await anext(changes)).event
    assert event.channel.status.error.cause.HasField("transport")
    watch.cancel()


async def test_admin_unknown_channel_is_not_found(house, channel) -> None:
    admin = subscription_pb2_grpc.SubscriptionAdminServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.GetChannel(subscription_pb2.GetChannelRequest(channel_id="channel-9"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert ("twinric-code", "E2-REQUEST-UNKNOWN") in list(caught.value.trailing_metadata())


async def test_admin_lists_service_models_and_refuses_uploads(house, channel) -> None:
    admin = admin_pb2_grpc.E2TAdminServiceStub(channel)
    asked = admin_pb2.ListRegisteredServiceModelsRequest(model_name=kpm.NAME)
    listed = [(each.name, each.version) async for each in admin.ListRegisteredServiceModels(asked)]
    assert listed == [(kpm.NAME, kpm.VERSION)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.UploadRegisterServiceModel(iter([]))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_admin_lists_connections_and_drops_them(house, channel) -> None:
    node = await house.node()
    admin = admin_pb2_grpc.E2TAdminServiceStub(channel)
    listed = [each async for each in admin.ListE2NodeConnections(admin_pb2.ListE2NodeConnectionsRequest())]
    (connection,) = listed
    assert (connection.id, connection.plmn_id, connection.node_id) == (node.name, "00101", "e2000001")
    assert list(connection.remote_ip) == ["127.0.0.1"]
    assert connection.remote_port > 0
    assert {each.ran_function_id for each in connection.ran_functions} == {"2", "4"}
    gone = admin_pb2.ListE2NodeConnectionsResponse(id="00101-1")
    answer = await admin.DropE2NodeConnections(admin_pb2.DropE2NodeConnectionsRequest(connections=[connection, gone]))
    assert list(answer.success) == [True, False]
    await house.until(lambda: not node.connection.is_connected)
    await node.connection.connected(5.0)


@pytest.mark.parametrize(
    ("actions", "headers", "field"),
    [
        ([], {}, "subscription.actions"),
        ([1, 1], {}, "subscription.actions.id"),
        ([256], {}, "subscription.actions.id"),
        ([-1], {}, "subscription.actions.id"),
        ([0], {"encoding": e2_pb2.ASN1_PER}, "headers.encoding"),
        ([0], {"app_id": ""}, "headers.app_id"),
        ([0], {"app_id": "a" * 300}, "headers.app_id"),
    ],
    ids=["no action", "action twice", "id too high", "negative id", "ASN.1", "no app", "long app"],
)
async def test_subscribe_out_of_range_is_invalid_and_names_the_field(
    house, channel, actions: list[int], headers: dict[str, object], field: str
) -> None:
    node = await house.node()
    wire = [subscription_pb2.Action(id=number) for number in actions]
    stream = subscription_pb2_grpc.SubscriptionServiceStub(channel).Subscribe(request(node.name, wire, **headers))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await aiter(stream).__anext__()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")
    assert node.kpm.subscriptions == {}
