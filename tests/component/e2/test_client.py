"""What an xApp sees: nodes, subscriptions, refusals with their codes, controls."""

from __future__ import annotations

import asyncio

import pytest

from ric.e2sm import ccc, kpm
from ric.errors import TwinRicError

KPM = (kpm.NAME, kpm.VERSION)
CCC = (ccc.NAME, ccc.VERSION)
TERMS = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}


def control_of(share: int) -> tuple[bytes, bytes]:
    return ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=share),))


async def test_client_control_returns_the_outcome_in_force(house) -> None:
    node, client = await house.node(), await house.client()
    assert await client.control(node.name, CCC, *control_of(25)) == control_of(25)[1]
    assert node.ccc.controls == [control_of(25)]


async def test_client_control_refused_by_the_node_has_code_field_and_range(house) -> None:
    node, client = await house.node(), await house.client()
    node.ccc.refuse = TwinRicError("E2-RANGE", "rrm_policy_dedicated_ratio", 25, "0..20")
    with pytest.raises(TwinRicError) as caught:
        await client.control(node.name, CCC, *control_of(25))
    fault = caught.value.faults[0]
    assert (fault.code, fault.field, fault.accepted) == ("E2-RANGE", "rrm_policy_dedicated_ratio", "0..20")


async def test_client_control_that_does_not_hold_is_unverified(house) -> None:
    node, client = await house.node(), await house.client()
    node.ccc.outcome = control_of(20)[1]
    with pytest.raises(TwinRicError, match="E2-UNVERIFIED slice 1-000001"):
        await client.control(node.name, CCC, *control_of(25))


async def test_client_control_malformed_never_reaches_the_node(house) -> None:
    node, client = await house.node(), await house.client()
    with pytest.raises(TwinRicError, match="E2-MALFORMED"):
        await client.control(node.name, CCC, control_of(25)[0], b"\xff")
    with pytest.raises(TwinRicError, match="E2-RANGE control_header"):
        await client.control(node.name, CCC, b'{"controlHeaderFormat": 1}', control_of(25)[1])
    assert node.ccc.controls == []


async def test_client_control_conflict_names_the_winner(house) -> None:
    node = await house.node()
    first, second, protector = [await house.client(app) for app in ("first", "second", "protector")]
    await first.control(node.name, CCC, *control_of(25))
    with pytest.raises(TwinRicError) as caught:
        await second.control(node.name, CCC, *control_of(30))
    assert caught.value.code == "E2-CONFLICT"
    assert "first" in caught.value.faults[0].accepted
    await protector.control(node.name, CCC, *control_of(50))
    assert [each[1] for each in node.ccc.controls] == [control_of(25)[1], control_of(50)[1]]


async def test_client_control_refused_by_the_node_leaves_no_hold(house) -> None:
    node = await house.node()
    first, second = await house.client("first"), await house.client("second")
    node.ccc.refuse = TwinRicError("E2-RANGE", "x", 1, "2")
    with pytest.raises(TwinRicError, match="E2-RANGE"):
        await first.control(node.name, CCC, *control_of(25))
    node.ccc.refuse = None
    await second.control(node.name, CCC, *control_of(30))


@pytest.mark.parametrize(
    ("node_id", "model", "code"),
    [
        ("00101-beef", KPM, "E2-NODE-UNKNOWN"),
        (None, ("twinric-e2sm-grid", "v1"), "E2-FUNCTION-UNKNOWN"),
        (None, ("nonsense", "v1"), "E2-FUNCTION-UNKNOWN"),
        ("", KPM, "E2-RANGE"),
    ],
    ids=["unknown node", "function not offered", "unknown model", "no node named"],
)
async def test_client_subscribe_refused_has_a_code(
    house, node_id: str | None, model: tuple[str, str], code: str
) -> None:
    node, client = await house.node(), await house.client()
    name = node.name if node_id is None else node_id
    with pytest.raises(TwinRicError) as caught:
        await anext(client.subscribe(name, model, transaction_id="t", **TERMS))
    assert caught.value.code == code


async def test_client_subscribe_refused_by_the_node_has_the_nodes_cause(house) -> None:
    node, client = await house.node(), await house.client()
    node.kpm.refuse = TwinRicError("E2-RANGE", "event_trigger.granularity_period_ms", 3, "10..86400000 ms")
    with pytest.raises(TwinRicError) as caught:
        await anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS))
    assert caught.value.faults[0].field == "event_trigger.granularity_period_ms"
    node.kpm.refuse = None
    stream = client.subscribe(node.name, KPM, transaction_id="t", **TERMS)
    first = asyncio.ensure_future(anext(stream))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"m")
    assert await asyncio.wait_for(first, 5.0) == (b"h", b"m")
    await stream.aclose()


async def test_client_stream_ends_with_the_cause_when_the_node_is_lost(house) -> None:
    node, client = await house.node(), await house.client()
    first = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.connection.stop()
    with pytest.raises(TwinRicError, match="E2-LOST"):
        await asyncio.wait_for(first, 5.0)


async def test_client_follow_finds_nodes_that_come_later(house) -> None:
    client = await house.client()
    got: list[str] = []
    following = asyncio.create_task(client.follow(KPM, handler=lambda name, _, __: got.append(name), **TERMS))
    nodes = [await house.node(number) for number in (1, 2)]
    await house.until(lambda: all(node.kpm.subscriptions for node in nodes))
    for node in nodes:
        await node.report(b"h", b"m")
    await house.until(lambda: sorted(got) == sorted(node.name for node in nodes))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_client_follow_ends_with_what_the_handler_raises(house) -> None:
    node, client = await house.node(), await house.client()

    def handler(name: str, header: bytes, payload: bytes) -> None:
        raise TwinRicError("E2-MALFORMED", "payload", payload, "something else")

    following = asyncio.create_task(client.follow(KPM, handler=handler, **TERMS))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await node.report(b"h", b"m")
    with pytest.raises(TwinRicError, match="something else"):
        await asyncio.wait_for(following, 5.0)


async def test_client_before_start_and_after_stop_says_so(house) -> None:
    client = await house.client()
    await client.stop()
    with pytest.raises(TwinRicError, match="E2-STATE client"):
        await client.nodes()


async def test_client_without_a_ric_is_told_so_in_time(house) -> None:
    client = await house.client()
    await house.platform.stop()
    with pytest.raises(TwinRicError, match="E2-LOST"):
        await client.nodes()
    with pytest.raises(TwinRicError) as caught:
        await client.control("00101-1", CCC, *control_of(25), deadline_s=0.1)
    assert caught.value.code in ("E2-LOST", "E2-DEADLINE")
