"""E2 nodes against the termination over real gRPC: malformed PDUs, silence, displacement, deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import CONNECT
from ric.e2sm import ccc, kpm
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

CCC = (ccc.NAME, ccc.VERSION)


class RawNode:
    """A stream of raw octets: an E2 node that can say anything, or nothing."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._call: Any = self._channel.stream_stream(CONNECT)()

    async def say(self, octets: bytes) -> None:
        await self._call.write(octets)

    async def set_up(self, keep_alive_ms: int = 1_000) -> pb.E2apPdu:
        request = pb.E2SetupRequest(
            global_e2_node_id=NodeIdentity("00101", 0xE2000001).to_wire(), keep_alive_ms=keep_alive_ms,
            ran_functions=[RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID).to_wire()],
        )  # fmt: skip
        await self.say(pb.E2apPdu(transaction_id=1, e2_setup_request=request).SerializeToString())
        return await self.hear()

    async def hear(self) -> pb.E2apPdu:
        try:
            octets = await asyncio.wait_for(self._call.read(), 5.0)
        except grpc.aio.AioRpcError as error:
            raise EOFError(error.details()) from error
        return pb.E2apPdu.FromString(octets)

    async def close(self) -> None:
        await self._channel.close(None)


@pytest.fixture
async def raw(house) -> AsyncIterator[RawNode]:
    node = RawNode(house.ports.nodes)
    yield node
    await node.close()


def refused(house, code: str) -> float:
    return house.platform.metrics.refused.labels("ric", code)._value.get()


async def test_termination_malformed_pdu_is_answered_and_counted_and_the_stream_goes_on(house, raw: RawNode) -> None:
    assert (await raw.set_up()).HasField("e2_setup_response")
    for octets in (b"\xff\xff\xff", b"\x0a", bytes(range(64))):
        await raw.say(octets)
        assert (await raw.hear()).error_indication.cause.value == "transfer-syntax-error"
    assert refused(house, "E2-MALFORMED") == 3
    await raw.say(pb.E2apPdu(transaction_id=7, keep_alive=pb.KeepAlive()).SerializeToString())
    assert (await raw.hear()).transaction_id == 7


async def test_termination_empty_pdu_and_wrong_direction_are_errors_of_state(house, raw: RawNode) -> None:
    await raw.set_up()
    for pdu in (pb.E2apPdu(), pb.E2apPdu(ric_control_request=pb.RicControlRequest())):
        await raw.say(pdu.SerializeToString())
        answer = await raw.hear()
        assert answer.error_indication.cause.value == "message-not-compatible-with-receiver-state"
    assert refused(house, "E2-STATE") == 2


async def test_termination_setup_refused_names_field_and_range(house, raw: RawNode) -> None:
    failure = (await raw.set_up(keep_alive_ms=1)).e2_setup_failure
    assert (failure.cause.field, failure.cause.accepted) == ("keep_alive_ms", "100..3600000 ms")
    assert house.platform.termination.nodes == {}
    assert (await raw.set_up()).HasField("e2_setup_response")


async def test_termination_silent_node_is_released_and_its_stream_ends(house, raw: RawNode) -> None:
    await raw.set_up(keep_alive_ms=100)
    assert list(house.platform.termination.nodes) == ["00101-e2000001"]
    with pytest.raises(EOFError, match="keep_alive_ms"):
        await raw.hear()
    assert house.platform.termination.nodes == {}


async def test_termination_node_that_sets_up_again_displaces_its_older_connection(house, raw: RawNode) -> None:
    await raw.set_up()
    newer = RawNode(house.ports.nodes)
    await newer.set_up()
    with pytest.raises(EOFError, match="one connection per node"):
        await raw.hear()
    assert list(house.platform.termination.nodes) == ["00101-e2000001"]
    await newer.close()
    await house.until(lambda: not house.platform.termination.nodes)


async def test_termination_control_that_is_never_answered_ends_at_its_deadline(house, raw: RawNode) -> None:
    await raw.set_up()
    client = await house.client()
    header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    with pytest.raises(TwinRicError) as caught:
        await client.control("00101-e2000001", CCC, header, payload, deadline_s=0.15)
    assert caught.value.code == "E2-DEADLINE"
    assert "read it again" in caught.value.faults[0].remedy
    # The late answer is no error, and the next control works.
    asked = (await raw.hear()).ric_control_request
    control = asyncio.create_task(client.control("00101-e2000001", CCC, header, payload))
    for request in (asked, (await raw.hear()).ric_control_request):
        answer = pb.RicControlAcknowledge(
            ric_request_id=request.ric_request_id, ran_function_id=request.ran_function_id,
            call_process_id=request.call_process_id, outcome=payload,
        )  # fmt: skip
        await raw.say(pb.E2apPdu(ric_control_acknowledge=answer).SerializeToString())
    assert await control == payload


async def test_termination_lost_node_fails_the_control_under_way_at_once(house, raw: RawNode) -> None:
    await raw.set_up()
    client = await house.client()
    header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    control = asyncio.create_task(client.control("00101-e2000001", CCC, header, payload, deadline_s=30.0))
    await raw.hear()
    await raw.close()
    with pytest.raises(TwinRicError, match="E2-LOST"):
        await asyncio.wait_for(control, 5.0)


async def test_termination_ten_nodes_connect_and_are_listed(house) -> None:
    nodes = [await house.node(number) for number in range(1, 11)]
    client = await house.client()
    views = await client.nodes()
    assert [view.e2_node_id for view in views] == sorted(node.name for node in nodes)
    assert views[0].oids == {kpm.OID, ccc.OID}
