"""Subscriptions of several xApps at one node, and the RIC's own."""

from __future__ import annotations

import asyncio

import pytest

from ric.e2.identities import RanFunction
from ric.e2.subscription_manager import SubscriptionAction
from ric.e2sm import dapp, kpm
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm

KPM = (kpm.NAME, kpm.VERSION)
TERMS = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}


async def test_exchange_two_xapps_share_one_subscription_at_the_node(house) -> None:
    node = await house.node()
    streams = [
        (await house.client(app)).subscribe(node.name, KPM, transaction_id="t", **TERMS) for app in ("one", "two")
    ]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await house.until(lambda: len(list(house.platform.manager.channels())) == 2)
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"m")
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5.0) == [(b"h", b"m")] * 2
    assert len(node.kpm.subscriptions) == 1
    for stream in streams:
        await stream.aclose()


async def test_exchange_slow_xapp_loses_its_own_oldest_and_others_lose_none(house) -> None:
    node = await house.node()
    slow = (await house.client("slow")).subscribe(node.name, KPM, transaction_id="t", **TERMS)
    fast = (await house.client("fast")).subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = [asyncio.ensure_future(anext(stream)) for stream in (slow, fast)]
    await house.until(lambda: bool(node.kpm.subscriptions))
    big, number = bytes(200_000), 600
    await node.report(b"h", (0).to_bytes(2, "big") + big)
    await asyncio.wait_for(asyncio.gather(*first), 5.0)
    for turn in range(1, number):
        await node.report(b"h", turn.to_bytes(2, "big") + big)
        assert int.from_bytes((await asyncio.wait_for(anext(fast), 5.0))[1][:2], "big") == turn
    dropped = {each.identity.app_id: each.dropped for each in house.platform.manager.channels()}
    assert dropped["fast"] == 0
    assert dropped["slow"] > 0
    assert house.platform.metrics.dropped.labels("ric", "e2_subscriber")._value.get() == dropped["slow"]
    got = []
    while not got or got[-1] != number - 1:
        got.append(int.from_bytes((await asyncio.wait_for(anext(slow), 5.0))[1][:2], "big"))
    assert got == sorted(got)
    assert len(got) + dropped["slow"] == number - 1
    await slow.aclose()
    await fast.aclose()


async def test_exchange_reader_that_stays_away_ends_the_subscription_at_the_node(house) -> None:
    house.platform.manager._linger_s = 0.05
    node, client = await house.node(), await house.client()
    stream = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = asyncio.ensure_future(anext(stream))
    await house.until(lambda: bool(node.kpm.subscriptions))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await house.until(lambda: len(node.kpm.deleted) == 1)
    assert node.kpm.subscriptions == {}


async def test_exchange_same_transaction_id_continues_after_a_broken_stream(house) -> None:
    node, client = await house.node(), await house.client()
    first = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await node.report(b"h", b"meanwhile")
    again = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    assert await asyncio.wait_for(anext(again), 5.0) == (b"h", b"meanwhile")
    assert len(node.kpm.subscriptions) == 1
    assert node.kpm.deleted == []
    await again.aclose()


async def test_exchange_unsubscribe_ends_stream_and_subscription(house) -> None:
    node, client = await house.node(), await house.client()
    first = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await client.unsubscribe(node.name, KPM, transaction_id="t")
    assert node.kpm.subscriptions == {}
    with pytest.raises(TwinRicError, match="E2-LOST subscription"):
        await asyncio.wait_for(first, 5.0)
    with pytest.raises(TwinRicError, match="E2-REQUEST-UNKNOWN"):
        await client.unsubscribe(node.name, KPM, transaction_id="t")


async def test_exchange_dapp_reports_reach_the_ric_itself_across_reconnects(house, make_function) -> None:
    got: list[dapp.DAppReport] = []

    async def take(_: str, header: bytes, payload: bytes) -> None:
        if payload == b"\xff":
            raise TwinRicError("E2-MALFORMED", "report", payload, "an alarm")
        got.append(dapp.decode_indication(header, payload))

    house.platform.on_dapp_report(take)
    node = await house.node()
    reports = make_function(RanFunction(dapp.RAN_FUNCTION_ID, dapp.OID))
    await node.connection.update_functions(added=[reports])

    async def raise_alarm(sequence_id: int) -> None:
        await house.until(lambda: bool(reports.subscriptions))
        (request,) = reports.subscriptions
        report = dapp.DAppReport(node.name, 1, 7, sequence_id, Alarm())
        await node.connection.indicate(request, dapp.RAN_FUNCTION_ID, 0, b"", b"\xff")
        await node.connection.indicate(request, dapp.RAN_FUNCTION_ID, 0, *dapp.encode_indication(report))
        await house.until(lambda: bool(got) and got[-1].sequence_id == sequence_id)

    await raise_alarm(1)
    await node.connection.drop()
    await node.connection.connected(5.0)
    await raise_alarm(2)
    assert [report.sequence_id for report in got] == [1, 2]
    assert house.platform.metrics.refused.labels("ric", "E2-MALFORMED")._value.get() == 2


async def test_exchange_internal_subscription_serves_nodes_that_are_there_already(house) -> None:
    node = await house.node()
    got: list[bytes] = []
    house.platform.subscribe_internal(
        KPM, TERMS["trigger"], (SubscriptionAction(0, 0, b""),), lambda _, __, payload: got.append(payload)
    )
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"m")
    await house.until(lambda: got == [b"m"])
