"""The node's side: reconnection, idempotent controls, procedures that the node begins."""

from __future__ import annotations

import asyncio

import pytest

from ric.e2.identities import RanFunction, RicRequestId
from ric.e2sm import ccc, grid, kpm
from ric.errors import TwinRicError

KPM = (kpm.NAME, kpm.VERSION)
CCC = (ccc.NAME, ccc.VERSION)
TERMS = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}


async def test_node_reconnects_after_a_loss_and_is_subscribed_again(house) -> None:
    node, client = await house.node(), await house.client()
    got: list[bytes] = []
    following = asyncio.create_task(client.follow(KPM, handler=lambda _, __, payload: got.append(payload), **TERMS))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"before")
    await house.until(lambda: got == [b"before"])
    await node.connection.drop()
    assert not node.connection.is_connected
    assert node.kpm.subscriptions == {}
    await node.connection.connected(5.0)
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"after")
    await house.until(lambda: got == [b"before", b"after"])
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_node_dials_until_the_ric_is_there(house, make_node) -> None:
    node = make_node(house.ports.nodes + 0)
    await house.platform.stop()
    await node.connection.start()
    with pytest.raises(TwinRicError, match="E2-LOST"):
        await node.connection.connected(0.2)
    house.ports = await house.platform.start(f"127.0.0.1:{house.ports.nodes}", "127.0.0.1:0")
    await node.connection.connected(10.0)
    await node.connection.stop()


async def test_node_applies_a_repeated_call_process_id_once(house) -> None:
    node = await house.node()
    payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    control = house.platform.termination.begin_control
    node.ccc.delay_s = 0.05
    outcomes = await asyncio.gather(*(control(node.name, 4, "same", payload, 1.0) for _ in range(3)))
    assert outcomes == [payload[1]] * 3
    assert len(node.ccc.controls) == 1
    await control(node.name, 4, "other", payload, 1.0)
    assert len(node.ccc.controls) == 2


async def test_node_finishes_a_control_whose_connection_broke_and_answers_the_repeat(house) -> None:
    node = await house.node()
    payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    node.ccc.delay_s = 0.05
    first = house.platform.termination.begin_control(node.name, 4, "same", payload, 5.0)
    await asyncio.sleep(0.02)
    await node.connection.drop()
    with pytest.raises(TwinRicError, match="E2-LOST"):
        await first
    await node.connection.connected(5.0)
    assert await house.platform.termination.begin_control(node.name, 4, "same", payload, 5.0) == payload[1]
    assert len(node.ccc.controls) == 1


async def test_node_control_for_a_function_that_it_lacks_is_a_typed_failure(house) -> None:
    node = await house.node()
    with pytest.raises(TwinRicError, match="E2-FUNCTION-UNKNOWN ran_function_id"):
        await house.platform.termination.begin_control(node.name, 77, "c", (b"", b""), 1.0)


async def test_node_service_update_adds_and_deletes_functions(house, make_function) -> None:
    node, client = await house.node(), await house.client()
    extra = make_function(RanFunction(grid.RAN_FUNCTION_ID, grid.OID))
    await node.connection.update_functions(added=[extra], deleted=[ccc.RAN_FUNCTION_ID])
    (view,) = await client.nodes()
    assert view.oids == {kpm.OID, grid.OID}
    with pytest.raises(TwinRicError, match="E2-FUNCTION-UNKNOWN"):
        await node.connection.update_functions(deleted=[ccc.RAN_FUNCTION_ID])


async def test_node_service_query_is_answered_with_its_functions(house) -> None:
    node = await house.node()
    changed = asyncio.create_task(house.platform.node_change())
    await asyncio.sleep(0)
    house.platform.termination.query(node.name)
    await asyncio.wait_for(changed, 5.0)
    assert {function.oid for function in house.platform.termination.node(node.name).functions} == {kpm.OID, ccc.OID}


async def test_node_configuration_update_reaches_the_ric(house) -> None:
    node = await house.node()
    await node.connection.update_configuration({"gNB-CU": b"1"})
    assert house.platform.termination.components(node.name) == {"gNB-CU": b"1"}
    with pytest.raises(TwinRicError, match="component_configuration"):
        await node.connection.update_configuration({})


@pytest.mark.parametrize("side", ["node", "ric"])
async def test_reset_from_either_side_subscribes_again_while_streams_stay_open(house, side: str) -> None:
    node, client = await house.node(), await house.client()
    stream = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = asyncio.ensure_future(anext(stream))
    await house.until(lambda: bool(node.kpm.subscriptions))
    before = set(node.kpm.subscriptions)
    cause = TwinRicError("INTERNAL", "node", "restart", "none")
    if side == "node":
        await node.connection.reset(cause)
    else:
        await house.platform.termination.reset(node.name, cause)
    await house.until(lambda: bool(node.kpm.subscriptions) and set(node.kpm.subscriptions) != before)
    await node.report(b"h", b"again")
    assert await asyncio.wait_for(first, 5.0) == (b"h", b"again")
    await stream.aclose()


async def test_node_indication_without_its_subscription_is_not_sent(house) -> None:
    node = await house.node()
    assert not await node.connection.indicate(RicRequestId(1, 1), kpm.RAN_FUNCTION_ID, 0, b"h", b"m")


async def test_node_handler_with_a_bug_refuses_and_the_node_lives_on(house) -> None:
    node, client = await house.node(), await house.client()
    node.ccc.refuse = ZeroDivisionError("a bug")
    header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    with pytest.raises(TwinRicError, match="ZeroDivisionError"):
        await client.control(node.name, CCC, header, payload)
    node.ccc.refuse = None
    assert await client.control(node.name, CCC, header, payload) == payload
    assert node.metrics.refused.labels("e2_node", "INTERNAL")._value.get() == 1


async def test_node_function_under_another_id_is_subscribed_again(house, make_function) -> None:
    node, client = await house.node(), await house.client()
    stream = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = asyncio.ensure_future(anext(stream))
    await house.until(lambda: bool(node.kpm.subscriptions))
    moved = make_function(RanFunction(12, kpm.OID))
    await node.connection.update_functions(added=[moved], deleted=[kpm.RAN_FUNCTION_ID])
    await house.until(lambda: bool(moved.subscriptions))
    assert node.kpm.subscriptions == {}
    (request,) = moved.subscriptions
    await node.connection.indicate(request, 12, 0, b"h", b"moved")
    assert await asyncio.wait_for(first, 5.0) == (b"h", b"moved")
    await stream.aclose()


async def test_node_function_that_goes_ends_its_subscription_and_its_control_at_once(house) -> None:
    node, client = await house.node(), await house.client()
    reading = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    (request,) = node.kpm.subscriptions
    node.ccc.delay_s = 2.0
    header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    control = asyncio.ensure_future(client.control(node.name, CCC, header, payload))
    await asyncio.sleep(0.05)
    await node.connection.update_functions(deleted=[kpm.RAN_FUNCTION_ID, ccc.RAN_FUNCTION_ID])
    for ended in (reading, control):
        with pytest.raises(TwinRicError, match="E2-FUNCTION-UNKNOWN"):
            await asyncio.wait_for(ended, 1.0)
    assert node.kpm.subscriptions == {}
    assert not await node.connection.indicate(request, kpm.RAN_FUNCTION_ID, 0, b"h", b"m")


async def test_node_function_that_the_ric_rejects_is_not_offered(house, make_function) -> None:
    node = await house.node()
    await node.connection.update_functions(added=[make_function(RanFunction(12, "no oid"))])
    assert 12 not in {function.ran_function_id for function in house.platform.termination.node(node.name).functions}
    assert 12 not in node.connection._requests.handlers


async def test_node_whose_setup_is_refused_waits_as_long_as_the_ric_says(house, make_node) -> None:
    node = make_node(house.ports.nodes, 1, 1)  # a keep-alive of 1 ms is out of range
    await node.connection.start()
    await house.until(lambda: house.platform.metrics.refused.labels("ric", "E2-RANGE")._value.get() == 1)
    await asyncio.sleep(0.3)  # the back-off alone would have dialled ten times
    assert house.platform.metrics.refused.labels("ric", "E2-RANGE")._value.get() == 1
    await node.connection.stop()


async def test_reset_by_the_ric_forgives_indications_under_way(house) -> None:
    node, client = await house.node(), await house.client()
    stream = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = asyncio.ensure_future(anext(stream))
    await house.until(lambda: bool(node.kpm.subscriptions))
    (request,) = node.kpm.subscriptions
    resetting = asyncio.ensure_future(
        house.platform.termination.reset(node.name, TwinRicError("INTERNAL", "ric", "restart", "none"))
    )
    await node.connection.indicate(request, kpm.RAN_FUNCTION_ID, 0, b"h", b"late")
    await resetting
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"again")
    assert (await asyncio.wait_for(first, 5.0))[1] in (b"late", b"again")
    assert house.platform.metrics.refused.labels("ric", "E2-REQUEST-UNKNOWN")._value.get() == 0
    await stream.aclose()
