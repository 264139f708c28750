"""dApp session and E3 agent over real ZeroMQ sockets: the whole conversation, and what must not disturb it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
import zmq
import zmq.asyncio

from e2sim.e3_agent import E3Agent
from ric.e3.e3ap import FEEDER_FUNCTION_ID, Waveform, decode_pdu, decode_waveform, encode_pdu
from ric.e3.session import MAX_KEPT, E3Endpoints, E3Session
from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb
from ric.telemetry import Metrics

pytestmark = pytest.mark.timeout(30)
FREE = E3Endpoints(*["tcp://127.0.0.1:0"] * 3)


def window(sequence):
    samples = np.full((2, 6, 20), float(sequence), dtype=np.float32)
    return Waveform(4_000, sequence, sequence * 5_000_000, samples)


def make_session(endpoints, name="fault_alarm", **options):
    return E3Session(endpoints, dapp_name=name, dapp_version="1", vendor="TwinRIC", metrics=Metrics("test"), **options)


class Peers:
    def __init__(self, agent, reports):
        self.agent = agent
        self.reports = reports
        self.windows = []


@asynccontextmanager
async def joined(endpoints=FREE, **options):
    reports, controls = [], []

    async def on_report(identifier, sequence_id, data):
        reports.append((identifier, sequence_id, data))

    async def on_control(control_id, data):
        controls.append((control_id, data))

    agent = E3Agent(endpoints, "du-1", on_report=on_report, on_control=on_control, metrics=Metrics("agent"))
    await agent.start()
    session = make_session(agent.endpoints, **options)
    await session.start()
    peers = Peers(agent, reports)
    peers.controls = controls
    following = asyncio.create_task(session.follow(lambda _, data: peers.windows.append(decode_waveform(data))))
    await until(lambda: agent.subscribers == 1)
    try:
        yield session, peers
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await session.stop()
        await agent.stop()


async def until(condition, limit_s=10.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.002)


async def test_session_indications_arrive_whole_and_in_order():
    async with joined() as (_, peers):
        for sequence in range(50):
            await peers.agent.indicate(window(sequence))
        await until(lambda: len(peers.windows) == 50)
        assert [each.sequence for each in peers.windows] == list(range(50))
        assert peers.windows[7].samples.shape == (2, 6, 20)


async def test_session_reports_reach_the_ran_once_each():
    async with joined() as (session, peers):
        for text in (b"one", b"two", b"three"):
            await session.report(text)
        await until(lambda: len(peers.reports) == 3)
        assert [data for _, _, data in peers.reports] == [b"one", b"two", b"three"]
        assert [sequence for _, sequence, _ in peers.reports] == [1, 2, 3]


async def test_session_xapp_control_reaches_the_dapp_it_is_for():
    received = []
    async with joined(on_xapp_control=lambda sequence, data: received.append((sequence, data))) as (session, peers):
        await peers.agent.control_dapp(session.dapp_identifier, 9, b"sensitivity")
        await until(lambda: received)
        assert received == [(9, b"sensitivity")]
        with pytest.raises(TwinRicError, match="dapp_identifier"):
            await peers.agent.control_dapp(99, 1, b"")


async def test_session_control_action_is_applied():
    async with joined() as (session, peers):
        await session.control(b"open section 3")
        await until(lambda: peers.controls)
        assert peers.controls == [(1, b"open section 3")]


async def test_agent_malformed_repeated_and_foreign_pdus_harm_nobody():
    async with joined() as (session, peers):
        context = zmq.asyncio.Context()
        stranger = context.socket(zmq.PUB)
        stranger.connect(peers.agent.endpoints.inbound)
        await asyncio.sleep(0.2)
        repeated = pb.DAppReport(
            dapp_identifier=session.dapp_identifier, ran_function_identifier=FEEDER_FUNCTION_ID, sequence_id=1
        )
        foreign = pb.DAppReport(dapp_identifier=77, ran_function_identifier=FEEDER_FUNCTION_ID, sequence_id=1)
        await session.report(b"real")
        await until(lambda: peers.reports)
        for octets in (
            b"\xff\xfe garbage",
            b"",
            b"x" * 70_000,
            encode_pdu(pb.E3Pdu(id=5, dapp_report=repeated)),
            encode_pdu(pb.E3Pdu(id=6, dapp_report=foreign)),
            encode_pdu(pb.E3Pdu(id=7, setup_response=pb.SetupResponse())),
        ):
            await stranger.send(octets)
        await asyncio.sleep(0.2)
        await session.report(b"still here")
        await until(lambda: len(peers.reports) == 2)
        assert peers.reports[1][2] == b"still here"
        stranger.close(0)
        context.term()


async def test_agent_serves_several_dapps_each_its_own():
    async with joined() as (_, peers):
        other = make_session(peers.agent.endpoints, "second")
        await other.start()
        seen = []
        following = asyncio.create_task(other.follow(lambda _, data: seen.append(decode_waveform(data))))
        await until(lambda: peers.agent.subscribers == 2)
        await peers.agent.indicate(window(1))
        await until(lambda: seen and peers.windows)
        assert len(seen) == len(peers.windows) == 1
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await other.stop()


async def test_session_agent_restart_is_survived():
    async with joined() as (session, peers):
        endpoints = peers.agent.endpoints
        await peers.agent.stop()
        reports = []

        async def on_report(*report):
            reports.append(report)

        again = E3Agent(endpoints, "du-1", on_report=on_report, metrics=Metrics("agent"))
        await again.start()
        try:
            await until(lambda: again.subscribers == 1, 15)
            async with asyncio.timeout(10):
                while not peers.windows:  # what is published before the sockets have joined again is lost
                    await again.indicate(window(3))
                    await asyncio.sleep(0.02)
            await session.report(b"after")
            await until(lambda: reports)
        finally:
            await again.stop()


async def test_session_takes_no_subscription_response_that_it_did_not_ask_for():
    """A late answer of a DU that is gone must not end the asking at its successor."""
    async with joined() as (session, peers):
        session._subscribed.clear()
        stale = pb.SubscriptionResponse(request_id=999, dapp_identifier=session.dapp_identifier, subscription_id=9)
        await peers.agent._send(pb.E3Pdu(subscription_response=stale))
        await peers.agent.indicate(window(1))
        await until(lambda: peers.windows)
        assert not session._subscribed.is_set()


async def test_agent_setup_request_that_is_none_is_refused_and_the_next_served():
    async with joined() as (_, peers):
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.REQ)
        socket.connect(peers.agent.endpoints.setup)
        await socket.send(b"\xff\xff")
        answer = decode_pdu(await asyncio.wait_for(socket.recv(), 5))
        assert answer.setup_response.response_code == pb.RESPONSE_CODE_NEGATIVE
        request = pb.SetupRequest(e3ap_protocol_version="1.0.0", dapp_name="x", dapp_version="1", vendor="y")
        await socket.send(encode_pdu(pb.E3Pdu(id=1, setup_request=request)))
        answer = decode_pdu(await asyncio.wait_for(socket.recv(), 5))
        assert answer.setup_response.response_code == pb.RESPONSE_CODE_POSITIVE
        assert answer.setup_response.ran_function_list[0].ran_function_identifier == FEEDER_FUNCTION_ID
        socket.close(0)
        context.term()


async def test_session_agent_restart_gets_the_newest_reports_again_in_their_order():
    """What is lost with a DU, or on the way to it, arrives late instead of never."""
    async with joined() as (session, peers):
        for text, keep in ((b"raised", "x"), (b"other", ""), (b"raised again", "x"), (b"cleared", "y")):
            await session.report(text, keep=keep)
        await until(lambda: len(peers.reports) == 4)
        await peers.agent.stop()
        await session.report(b"while it was away", keep="z")
        reports = []

        async def on_report(identifier, sequence_id, data):
            reports.append(data)

        again = E3Agent(peers.agent.endpoints, "du-1", on_report=on_report, metrics=Metrics("agent"))
        await again.start()
        try:
            # ZeroMQ may hand over by itself what was sent during the gap, so that one may come twice.
            await until(lambda: reports[-3:] == [b"raised again", b"cleared", b"while it was away"], 15)
            assert set(reports[:-3]) <= {b"while it was away"}
            await session.report(b"after")
            await until(lambda: reports[-1] == b"after")
        finally:
            await again.stop()


async def test_session_keeps_a_bounded_number_of_reports():
    async with joined() as (session, peers):
        for number in range(MAX_KEPT + 10):
            await session.report(b"%d" % number, keep=str(number))
        await until(lambda: len(peers.reports) == MAX_KEPT + 10)
        assert list(session._kept.values()) == [b"%d" % number for number in range(10, MAX_KEPT + 10)]
