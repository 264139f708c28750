"""All eleven E3AP messages, on every socket, in and out of place: what belongs is served, the rest harms nobody."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
import zmq
import zmq.asyncio

from e2sim.e3_agent import E3Agent
from ric.e3.e3ap import FEEDER_FUNCTION_ID, Waveform, decode_pdu, decode_waveform, encode_pdu
from ric.e3.session import E3Endpoints, E3Session
from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb
from ric.telemetry import Metrics

pytestmark = pytest.mark.timeout(60)
FREE = E3Endpoints(*["tcp://127.0.0.1:0"] * 3)
KINDS = [field.name for field in pb.E3Pdu.DESCRIPTOR.oneofs_by_name["msg"].fields]
TO_THE_RAN = {
    "subscription_request", "subscription_delete", "dapp_control_action", "dapp_report", "release_message",
    "message_ack",
}  # fmt: skip
TO_DAPPS = {"subscription_response", "indication_message", "xapp_control_action", "message_ack"}


def pdu_of(kind, identifier=1):
    """A PDU of that kind, of dApp `identifier`."""
    pdu = pb.E3Pdu(id=900, timestamp=1)
    message = getattr(pdu, kind)
    message.SetInParent()
    for field in message.DESCRIPTOR.fields:
        if field.name == "dapp_identifier":
            message.dapp_identifier = identifier
        elif field.name == "ran_function_identifier":
            message.ran_function_identifier = FEEDER_FUNCTION_ID
        elif field.name == "sequence_id":
            message.sequence_id = 1_000_000
        elif field.name == "control_identifier":
            message.control_identifier = 1
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, "1.0.0")
    return pdu


async def until(condition, limit_s=10.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


class Du:
    def __init__(self):
        self.reports, self.controls, self.metrics = [], [], Metrics("agent")
        self.agent = E3Agent(FREE, "du-1", on_report=self._on_report, on_control=self._on_control, metrics=self.metrics)

    async def _on_report(self, identifier, sequence_id, data):
        self.reports.append((identifier, data))

    async def _on_control(self, control_id, data):
        self.controls.append(data)

    def refused(self, code="E3-STATE"):
        return self.metrics.refused.labels("agent", code)._value.get()


class DApp:
    def __init__(self, agent, name):
        self.windows, self.told, self.refuse = [], [], False
        self.metrics = Metrics(name)
        self.session = E3Session(
            agent.endpoints, dapp_name=name, dapp_version="1", vendor="TwinRIC", metrics=self.metrics,
            on_xapp_control=self._on_control,
        )  # fmt: skip

    def _on_control(self, sequence_id, data):
        if self.refuse:
            raise TwinRicError("E3-RANGE", "data", data, "something else")
        self.told.append((sequence_id, data))

    async def follow(self):
        await self.session.follow(lambda _, data: self.windows.append(decode_waveform(data).sequence))


@asynccontextmanager
async def house(dapps=1):
    du = Du()
    await du.agent.start()
    members = [DApp(du.agent, f"dapp_{number}") for number in range(dapps)]
    tasks = []
    try:
        for number, member in enumerate(members, start=1):
            await member.session.start()
            tasks.append(asyncio.create_task(member.follow()))
            await until(lambda n=number: du.agent.subscribers == n)
        yield du, members
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in members:
            await member.session.stop()
        await du.agent.stop()


@asynccontextmanager
async def raw(kind, endpoint):
    context = zmq.asyncio.Context()
    socket = context.socket(kind)
    socket.connect(endpoint)
    await asyncio.sleep(0.2)  # a PUB socket drops what it sends before it has joined
    try:
        yield socket
    finally:
        socket.close(0)
        context.term()


async def serves(du, members):
    """Reports, windows and controls go through, to each dApp its own."""
    window = Waveform(4_000, len(members[0].windows) + 1, 0, np.zeros((1, 6, 1), np.float32))
    for member in members:
        before = len(du.reports)
        await member.session.report(b"alive")
        await until(lambda n=before: len(du.reports) == n + 1)
        assert du.reports[-1][0] == member.session.dapp_identifier
        await du.agent.control_dapp(member.session.dapp_identifier, 5, b"to you")
        assert member.told[-1] == (5, b"to you")
    counts = [len(member.windows) for member in members]
    await du.agent.indicate(window)
    await until(lambda: [len(member.windows) for member in members] == [count + 1 for count in counts])


def test_there_are_eleven_messages():
    assert len(KINDS) == 11
    for kind in KINDS:
        assert decode_pdu(encode_pdu(pdu_of(kind))).WhichOneof("msg") == kind


@pytest.mark.parametrize("kind", sorted(set(KINDS) - TO_THE_RAN))
async def test_message_that_does_not_belong_on_the_inbound_socket_is_refused(kind):
    async with house() as (du, members), raw(zmq.PUB, du.agent.endpoints.inbound) as stranger:
        before = du.refused()
        await stranger.send(encode_pdu(pdu_of(kind)))
        await until(lambda: du.refused() == before + 1)
        await serves(du, members)


@pytest.mark.parametrize("kind", sorted(TO_THE_RAN))
async def test_message_of_a_dapp_that_is_not_set_up_is_refused(kind):
    async with house() as (du, members), raw(zmq.PUB, du.agent.endpoints.inbound) as stranger:
        before = du.refused()
        await stranger.send(encode_pdu(pdu_of(kind, identifier=77)))
        await until(lambda: du.refused() == before + 1)
        assert du.reports == du.controls == []
        await serves(du, members)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"setup_request"}))
async def test_setup_socket_answers_everything_else_with_a_refusal(kind):
    async with house() as (du, members), raw(zmq.REQ, du.agent.endpoints.setup) as stranger:
        await stranger.send(encode_pdu(pdu_of(kind)))
        answer = decode_pdu(await asyncio.wait_for(stranger.recv(), 5)).setup_response
        assert answer.response_code == pb.RESPONSE_CODE_NEGATIVE
        await serves(du, members)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - TO_DAPPS))
async def test_message_that_does_not_belong_on_the_outbound_socket_is_refused_by_the_dapp(kind):
    async with house() as (du, members):
        await du.agent._send(pdu_of(kind, members[0].session.dapp_identifier))
        await until(lambda: members[0].metrics.refused.labels("dapp_0", "E3-STATE")._value.get() == 1)
        await serves(du, members)


async def test_out_of_order_and_repeated_reports_are_handed_on_once_and_never_backwards():
    async with house() as (du, members), raw(zmq.PUB, du.agent.endpoints.inbound) as stranger:
        identifier = members[0].session.dapp_identifier
        for sequence in (1, 3, 2, 3, 1, 4):
            report = pb.DAppReport(
                dapp_identifier=identifier, ran_function_identifier=FEEDER_FUNCTION_ID, sequence_id=sequence,
                report_data=b"%d" % sequence,
            )  # fmt: skip
            await stranger.send(encode_pdu(pb.E3Pdu(id=5, dapp_report=report)))
        await until(lambda: len(du.reports) == 3)
        await until(lambda: du.refused() == 3)
        assert [data for _, data in du.reports] == [b"1", b"3", b"4"]


async def test_subscription_before_set_up_twice_and_deleted_is_answered_each_time():
    async with house() as (du, members), raw(zmq.PUB, du.agent.endpoints.inbound) as stranger:
        identifier = members[0].session.dapp_identifier
        await stranger.send(encode_pdu(pdu_of("subscription_request", identifier)))
        await serves(du, members)
        assert du.agent.subscribers == 1
        await stranger.send(encode_pdu(pdu_of("subscription_delete", identifier)))
        await until(lambda: du.agent.subscribers == 0)
        assert await du.agent.indicate(Waveform(4_000, 9, 0, np.zeros((1, 6, 1), np.float32))) == 0


async def test_several_dapps_each_get_their_own_and_one_that_leaves_disturbs_nobody():
    async with house(dapps=4) as (du, members):
        await serves(du, members)
        await members[1].session.stop()
        await until(lambda: du.agent.subscribers == 3)
        await serves(du, [members[0], *members[2:]])
        assert len(members[1].told) == 1
        with pytest.raises(TwinRicError, match="E3-STATE dapp_identifier"):
            await du.agent.control_dapp(2, 1, b"gone")


async def test_xapp_control_that_the_dapp_refuses_or_does_not_answer_fails():
    async with house(dapps=2) as (du, members):
        members[0].refuse = True
        with pytest.raises(TwinRicError, match="E3-STATE xapp_control_data"):
            await du.agent.control_dapp(members[0].session.dapp_identifier, 1, b"no")
        members[1].session.on_xapp_control = None
        with pytest.raises(TwinRicError, match="E3-STATE xapp_control_data"):
            await du.agent.control_dapp(members[1].session.dapp_identifier, 1, b"no")
        members[0].refuse = False
        await du.agent.control_dapp(members[0].session.dapp_identifier, 2, b"yes")
        assert members[0].told == [(2, b"yes")]
        members[0].session._acknowledge = lambda *_: None
        with pytest.raises(TwinRicError, match="E3-STATE message_ack"):
            await du.agent.control_dapp(members[0].session.dapp_identifier, 3, b"silence")


async def test_acknowledgement_that_nobody_waits_for_is_refused():
    async with house() as (du, members), raw(zmq.PUB, du.agent.endpoints.inbound) as stranger:
        ack = pb.MessageAck(request_id=4, response_code=pb.RESPONSE_CODE_POSITIVE)
        await stranger.send(encode_pdu(pb.E3Pdu(id=1, message_ack=ack)))
        await until(lambda: du.refused() == 1)
        await serves(du, members)
