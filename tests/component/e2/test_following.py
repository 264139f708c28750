"""One stream for the indications of all nodes: nodes that come, go, refuse and return; readers slow or replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from ric.e2.client import E2Client
from ric.e2.identities import RanFunction
from ric.e2sm import ccc, kpm
from ric.errors import TwinRicError
from ric.pb.onos.e2t.e2.v1beta1 import e2_pb2, subscription_pb2
from ric.pb.twinric.xapp.v1 import indications_pb2, indications_pb2_grpc

KPM = (kpm.NAME, kpm.VERSION)
TERMS = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}


def request(app_id: str = "raw", e2_node_id: str = "") -> indications_pb2.FollowRequest:
    headers = e2_pb2.RequestHeaders(
        app_id=app_id, e2_node_id=e2_node_id, encoding=e2_pb2.PROTO,
        service_model=e2_pb2.ServiceModel(name=kpm.NAME, version=kpm.VERSION),
    )  # fmt: skip
    spec = subscription_pb2.SubscriptionSpec(actions=[subscription_pb2.Action(id=0)])
    return indications_pb2.FollowRequest(headers=headers, transaction_id="t", subscription=spec)


@pytest.fixture
async def stub(house) -> AsyncIterator[indications_pb2_grpc.IndicationStreamAsyncStub]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.ports.xapps}") as channel:
        yield indications_pb2_grpc.IndicationStreamStub(channel)


class Reader:
    """An xApp that follows KPM and keeps what it gets."""

    def __init__(self, client: E2Client) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.task = asyncio.ensure_future(client.follow(KPM, handler=self._take, **TERMS))

    def _take(self, name: str, header: bytes, payload: bytes) -> None:
        del header
        self.got.append((name, payload))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_following_node_that_returns_is_followed_again_without_duplicates(house) -> None:
    node, client = await house.node(), await house.client()
    reader = Reader(client)
    for turn in range(4):
        await house.until(lambda: bool(node.kpm.subscriptions))
        await node.report(b"h", bytes([turn]))
        await house.until(lambda turn=turn: reader.got[-1:] == [(node.name, bytes([turn]))])
        await node.connection.drop()
        await node.connection.connected(5.0)
    assert [payload for _, payload in reader.got] == [bytes([turn]) for turn in range(4)]
    await reader.stop()


async def test_following_equal_requests_of_many_xapps_are_one_subscription_per_node(house) -> None:
    nodes = [await house.node(number) for number in (1, 2)]
    readers = [Reader(await house.client(f"app-{number}")) for number in range(5)]
    await house.until(lambda: len(list(house.platform.manager.channels())) == 10)
    await house.until(lambda: all(each.is_in_force for each in house.platform.manager.subscriptions()))
    assert [len(node.kpm.subscriptions) for node in nodes] == [1, 1]
    for node in nodes:
        await node.report(b"h", b"m")
    await house.until(lambda: all(len(reader.got) == 2 for reader in readers))
    for reader in readers:
        await reader.stop()


async def test_following_function_added_while_running_is_subscribed_and_deleted_is_told(house, stub) -> None:
    node = await house.node()
    await node.connection.update_functions(deleted=[kpm.RAN_FUNCTION_ID])
    call = stub.Follow(request())
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0.05)
    assert not reading.done()
    await node.connection.update_functions(added=[node.kpm])
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"m")
    batch = await asyncio.wait_for(reading, 5.0)
    assert [(each.e2_node_id, each.payload) for each in batch.indications] == [(node.name, b"m")]
    await node.connection.update_functions(deleted=[kpm.RAN_FUNCTION_ID])
    batch = await asyncio.wait_for(call.read(), 5.0)
    assert [each.failure.faults[0].code for each in batch.failures] == ["E2-FUNCTION-UNKNOWN"]
    call.cancel()


async def test_following_node_that_refuses_is_told_and_asked_again(house, stub) -> None:
    node = await house.node()
    node.kpm.refuse = TwinRicError("E2-RANGE", "event_trigger", 3, "10..86400000 ms")
    call = stub.Follow(request())
    batch = await asyncio.wait_for(call.read(), 5.0)
    assert [(each.e2_node_id, each.failure.faults[0].code) for each in batch.failures] == [(node.name, "E2-RANGE")]
    node.kpm.refuse = None
    await house.until(lambda: bool(node.kpm.subscriptions))
    call.cancel()


async def test_following_reader_that_pauses_gets_what_waits_in_one_batch(house, stub) -> None:
    node = await house.node()
    call = stub.Follow(request())
    await house.until(lambda: bool(node.kpm.subscriptions))
    big, number = bytes(300_000), 60
    for turn in range(number):
        await node.report(b"h", bytes([turn]) + big)
    await house.until(lambda: house.platform.metrics.messages.labels("ric", "e2", "in")._value.get() >= number)
    got: list[int] = []
    sizes: list[int] = []
    while len(got) < number:
        batch = await asyncio.wait_for(call.read(), 5.0)
        sizes.append(len(batch.indications))
        got += [each.payload[0] for each in batch.indications]
    assert got == list(range(number))
    assert max(sizes) > 1
    call.cancel()


async def test_following_second_reader_replaces_the_first_which_is_told(house, stub) -> None:
    node = await house.node()
    first = stub.Follow(request())
    await house.until(lambda: bool(node.kpm.subscriptions))
    await house.until(lambda: all(each.is_in_force for each in house.platform.manager.subscriptions()))
    second = stub.Follow(request())
    batch = await asyncio.wait_for(first.read(), 5.0)
    assert [each.failure.faults[0].code for each in batch.failures] == ["E2-STATE"]
    await node.report(b"h", b"m")
    batch = await asyncio.wait_for(second.read(), 5.0)
    assert [each.payload for each in batch.indications] == [b"m"]
    assert len(node.kpm.subscriptions) == 1
    first.cancel()
    second.cancel()


async def test_following_reader_that_leaves_ends_the_subscriptions(house, stub) -> None:
    house.platform.manager._linger_s = 0.05
    node = await house.node()
    call = stub.Follow(request())
    await house.until(lambda: bool(node.kpm.subscriptions))
    call.cancel()
    await house.until(lambda: not node.kpm.subscriptions)
    assert list(house.platform.manager.channels()) == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [(request(e2_node_id="00101-1"), "headers.e2_node_id"), (request(app_id=""), "headers.app_id")],
    ids=["a node named", "no app named"],
)
async def test_following_out_of_range_is_refused_by_name(
    house, stub, asked: indications_pb2.FollowRequest, field: str
) -> None:
    del house
    with pytest.raises(grpc.aio.AioRpcError, match=field):
        await stub.Follow(asked).read()


async def test_following_unnamed_service_model_is_refused_at_once(house) -> None:
    client = await house.client()
    with pytest.raises(TwinRicError, match="E2-FUNCTION-UNKNOWN"):
        await client.follow(("nonsense", "v1"), handler=lambda *_: None, **TERMS)


async def test_following_model_that_no_node_offers_waits(house, make_function) -> None:
    node = await house.node()
    other = make_function(RanFunction(77, "1.2.3.4"))
    client = await house.client()
    following = asyncio.ensure_future(client.follow(("1.2.3.4", ""), handler=lambda *_: None, **TERMS))
    await node.connection.update_functions(added=[other], modified=[node.ccc])
    await house.until(lambda: bool(other.subscriptions))
    assert ccc.OID in {function.oid for function in house.platform.termination.node(node.name).functions}
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
