"""The whole way between an xApp and a dApp: E2 to the node, E3 to the dApp, and back."""

import asyncio
import contextlib

import pytest

from e2sim.e2_agent import E2Agents
from e2sim.feeder_agent import FREE, FeederAgent
from e2sim.network import Network
from e2sim.scenario import parse_scenario
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.platform import E2Platform
from ric.e2sm import dapp
from ric.e3.session import E3Session
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.telemetry import Metrics

NODE, MODEL = "00101-e2000001", (dapp.NAME, dapp.VERSION)
SCENARIO = {
    "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 60, "windows": [{"start_s": 0, "duration_s": 60}],
    "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}],
}  # fmt: skip


@contextlib.asynccontextmanager
async def bridge():
    platform = E2Platform(Metrics("ric"), WallClock())
    ports = await platform.start("127.0.0.1:0", "127.0.0.1:0")
    network = Network(parse_scenario(SCENARIO))
    agents = E2Agents(network, f"127.0.0.1:{ports.nodes}", metrics=Metrics("e2sim"))
    feeder = FeederAgent.of(network, agents, FREE)
    await feeder.start()
    await agents.start(10)
    told = []

    def take(sequence_id, data):
        if data == b"nonsense":
            raise TwinRicError("E3-RANGE", "data", data, "sense")
        told.append((sequence_id, data))

    sessions = [
        E3Session(
            feeder.endpoints, dapp_name=name, dapp_version="1", vendor="t", metrics=Metrics(name), on_xapp_control=take
        )
        for name in ("first", "second")
    ]
    tasks = []
    for number, session in enumerate(sessions, start=1):
        await session.start()
        tasks.append(asyncio.create_task(session.follow(lambda *_: None)))
        async with asyncio.timeout(10):
            while feeder.subscribers < number:
                await asyncio.sleep(0.01)
    try:
        async with E2Client(f"127.0.0.1:{ports.xapps}", app_id="x", instance_id="1") as client:
            yield client, sessions, told
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            await session.stop()
        await feeder.stop()
        await agents.stop()
        await platform.stop()


async def ask(client, identifier, data, sequence_id=1):
    request = dapp.DAppControl(identifier, sequence_id, data)
    return await client.control(NODE, MODEL, *dapp.encode_control(request), deadline_s=5)


@pytest.mark.timeout(60)
async def test_xapp_control_reaches_its_dapp_and_the_acknowledgement_says_that_it_was_accepted():
    async with bridge() as (client, sessions, told):
        assert await ask(client, sessions[1].dapp_identifier, b"listen harder", 7) == b"listen harder"
        assert told == [(7, b"listen harder")]
        with pytest.raises(TwinRicError, match="refused"):
            await ask(client, sessions[0].dapp_identifier, b"nonsense")
        with pytest.raises(TwinRicError, match="dapp_identifier"):
            await ask(client, 99, b"nobody")
        with pytest.raises(TwinRicError, match="xapp_control_data"):
            await ask(client, sessions[0].dapp_identifier, bytes(40_000))
        await ask(client, sessions[0].dapp_identifier, b"still here", 8)
        assert told[1:] == [(8, b"still here")]


@pytest.mark.timeout(60)
async def test_dapp_reports_of_several_dapps_reach_an_xapp_with_their_sender():
    async with bridge() as (client, sessions, _):
        reports = client.subscribe(NODE, MODEL, trigger=b"", action=b"", transaction_id="t")
        first = asyncio.ensure_future(anext(reports))
        await asyncio.sleep(0.3)
        for session in sessions:
            await session.report(
                Alarm(managed_object="feeder/1", trace_id=str(session.dapp_identifier)).SerializeToString()
            )
        async with asyncio.timeout(10):
            found = [dapp.decode_indication(*await first), dapp.decode_indication(*await anext(reports))]
        assert {report.dapp_identifier for report in found} == {session.dapp_identifier for session in sessions}
        assert all(report.alarm.trace_id == str(report.dapp_identifier) for report in found)
        await reports.aclose()
