"""Controls over real gRPC: the stream, the unary service, no acknowledgement, effects that the reports must show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from ric.e2.conflict_mitigation import ConflictDecision
from ric.e2.controls import ControlCall
from ric.e2sm import ccc, kpm
from ric.errors import TwinRicError
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2, control_pb2_grpc, e2_pb2
from ric.pb.twinric.xapp.v1 import controls_pb2, controls_pb2_grpc

KPM, CCC = (kpm.NAME, kpm.VERSION), (ccc.NAME, ccc.VERSION)
TERMS = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}
SLICE = "1-000001"


def control_of(share: int) -> tuple[bytes, bytes]:
    return ccc.encode_control((ccc.SliceRatio(s_nssai=SLICE, rrm_policy_dedicated_ratio=share),))


def request_of(node_name: str, share: int, app_id: str = "raw") -> control_pb2.ControlRequest:
    header, payload = control_of(share)
    headers = e2_pb2.RequestHeaders(
        app_id=app_id, e2_node_id=node_name, encoding=e2_pb2.PROTO,
        service_model=e2_pb2.ServiceModel(name=ccc.NAME, version=ccc.VERSION),
    )  # fmt: skip
    return control_pb2.ControlRequest(
        headers=headers, message=control_pb2.ControlMessage(header=header, payload=payload)
    )


def slots_report(node_name: str, at_ms: int, slots: int) -> tuple[bytes, bytes]:
    items = (kpm.KpmItem("00101-0000001", SLICE),)
    values = np.array([[float(slots)]])
    return kpm.encode_indication(
        kpm.KpmReport(node_name, at_ms * 1_000_000, 100, ("TWINRIC.FlexeSlots",), items, values)
    )


@pytest.fixture
async def channel(house) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.ports.xapps}") as made:
        yield made


@pytest.fixture
def told(house) -> tuple[list[ConflictDecision], list[tuple[ControlCall, TwinRicError | None]]]:
    """Decisions and ends of controls as the RIC's sinks see them."""
    decisions: list[ConflictDecision] = []
    ends: list[tuple[ControlCall, TwinRicError | None]] = []
    controls = house.platform.controls
    controls._on_decision, controls._on_control = decisions.append, lambda call, error: ends.append((call, error))
    return decisions, ends


# Ways to ask


async def test_controls_unary_service_of_the_public_api_returns_the_value_in_force(house, channel) -> None:
    node = await house.node()
    answer = await control_pb2_grpc.ControlServiceStub(channel).Control(request_of(node.name, 25))
    assert answer.outcome.payload == control_of(25)[1]


async def test_controls_stream_serves_controls_side_by_side(house) -> None:
    slow, fast = await house.node(1), await house.node(2)
    client = await house.client()
    slow.ccc.delay_s = 0.3
    waiting = asyncio.ensure_future(client.control(slow.name, CCC, *control_of(25)))
    await client.control(fast.name, CCC, *control_of(25))
    assert not waiting.done()
    assert await waiting == control_of(25)[1]


async def test_controls_stream_opens_again_after_the_ric_came_back(house) -> None:
    node, client = await house.node(), await house.client()
    await client.control(node.name, CCC, *control_of(25))
    await house.platform.stop()
    with pytest.raises(TwinRicError) as caught:
        await client.control(node.name, CCC, *control_of(30), deadline_s=0.1)
    assert caught.value.code in ("E2-LOST", "E2-DEADLINE")
    await house.platform.start(f"127.0.0.1:{house.ports.nodes}", f"127.0.0.1:{house.ports.xapps}")
    await node.connection.connected(5.0)
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(TwinRicError):
                await client.control(node.name, CCC, *control_of(30))
                break
            await asyncio.sleep(0.05)


async def test_controls_stream_answers_nonsense_with_a_typed_failure_and_goes_on(house, channel) -> None:
    node = await house.node()
    call = controls_pb2_grpc.ControlStreamStub(channel).Open()
    await call.write(controls_pb2.ControlAsk(number=7))
    answer = await call.read()
    assert (answer.number, answer.failure.faults[0].code) == (7, "E2-RANGE")
    await call.write(controls_pb2.ControlAsk(number=8, request=request_of(node.name, 25)))
    answer = await call.read()
    assert (answer.number, answer.response.outcome.payload) == (8, control_of(25)[1])
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_controls_deadline_of_the_caller_holds(house) -> None:
    node, client = await house.node(), await house.client()
    node.ccc.delay_s = 0.5
    with pytest.raises(TwinRicError, match="E2-DEADLINE"):
        await client.control(node.name, CCC, *control_of(25), deadline_s=0.05)


# Without acknowledgement


async def test_controls_without_acknowledgement_return_before_the_node_is_done(house, told) -> None:
    node, client = await house.node(), await house.client()
    node.ccc.delay_s = 0.2
    assert await client.control(node.name, CCC, *control_of(25), no_ack=True) == b""
    assert node.ccc.controls == []
    await house.until(lambda: len(node.ccc.controls) == 1)
    assert [error for _, error in told[1]] == [None]


async def test_controls_without_acknowledgement_that_the_node_refuses_are_told_and_hold_nothing(house, told) -> None:
    node = await house.node()
    first, second = await house.client("first"), await house.client("second")
    node.ccc.refuse = TwinRicError("E2-RANGE", "x", 1, "2")
    await first.control(node.name, CCC, *control_of(25), no_ack=True)
    await house.until(lambda: len(told[1]) == 2)
    (_, at_first), (call, error) = told[1]
    assert at_first is None
    assert (call.app_id, error.code) == ("first", "E2-RANGE")
    node.ccc.refuse = None
    await second.control(node.name, CCC, *control_of(30))


async def test_controls_without_acknowledgement_by_metadata_of_the_public_api(house, channel) -> None:
    node = await house.node()
    stub = control_pb2_grpc.ControlServiceStub(channel)
    answer = await stub.Control(request_of(node.name, 25), metadata=(("twinric-no-ack", "true"),))
    assert answer.outcome.payload == b""
    await house.until(lambda: node.ccc.controls == [control_of(25)])


# What the reports show


async def test_controls_effect_that_the_reports_refute_is_a_failed_control(house, told) -> None:
    node = await house.node()
    first, second = await house.client("first"), await house.client("second")
    reading = asyncio.ensure_future(anext(first.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await first.control(node.name, CCC, *control_of(25))
    with pytest.raises(TwinRicError, match="E2-CONFLICT"):
        await second.control(node.name, CCC, *control_of(30))
    for at_ms in (1_000, 1_100, 1_500):
        await node.report(*slots_report(node.name, at_ms, 4))
    await house.until(lambda: len(told[0]) == 2)
    decision = told[0][1]
    assert (decision.reason.code, decision.losers) == ("EFFECT_NOT_SEEN", ("first",))
    assert decision.reason.numbers == {"expected": 25.0, "reported": 20.0, "parameters": 1.0}
    call, error = told[1][-1]
    assert (call.app_id, error.code) == ("first", "E2-UNVERIFIED")
    assert house.platform.metrics.refused.labels("ric", "E2-UNVERIFIED")._value.get() == 1
    await second.control(node.name, CCC, *control_of(30))  # the failed control holds nothing
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_controls_effect_that_the_next_report_shows_is_verified(house, told) -> None:
    node, client = await house.node(), await house.client()
    reading = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await client.control(node.name, CCC, *control_of(25))
    for at_ms, slots in ((1_000, 4), (1_100, 5), (1_500, 4)):
        await node.report(*slots_report(node.name, at_ms, slots))
    await asyncio.wait_for(reading, 5.0)
    await house.until(lambda: house.platform.controls.verification.agreed == 1)
    assert told[0] == []


async def test_controls_report_that_cannot_be_read_ends_nothing(house, told) -> None:
    node, client = await house.node(), await house.client()
    reading = asyncio.ensure_future(anext(client.subscribe(node.name, KPM, transaction_id="t", **TERMS)))
    await house.until(lambda: bool(node.kpm.subscriptions))
    await client.control(node.name, CCC, *control_of(25))
    await node.report(b"\xff", b"\xff")
    assert await asyncio.wait_for(reading, 5.0) == (b"\xff", b"\xff")
    assert told[0] == []


async def test_controls_octets_that_are_no_control_end_their_stream_and_nobody_elses(house) -> None:
    node, client = await house.node(), await house.client()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.ports.xapps}") as channel:
        call = channel.stream_stream("/twinric.xapp.v1.ControlStream/Open", None, None)()
        await call.write(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 5.0)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["twinric-code"] == "E2-MALFORMED"
    await client.control(node.name, CCC, *control_of(25))
