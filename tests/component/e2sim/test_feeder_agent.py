"""The DU's side of E3 with a real session, and the bridge of dApp reports to E2."""

import asyncio

import numpy as np

from e2sim.e2_agent import E2Agents
from e2sim.feeder_agent import FeederAgent
from e2sim.network import GridParts, Network
from e2sim.scenario import load_scenario
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.platform import E2Platform
from ric.e2sm import dapp
from ric.e3.e3ap import decode_waveform
from ric.e3.session import E3Session
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.telemetry import Metrics

NODE = "00101-e2000001"


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_waveforms_reach_a_dapp_and_its_report_reaches_an_xapp():
    network = Network(load_scenario("smoke"), {NODE: GridParts()})
    platform = E2Platform(Metrics("ric"), WallClock())
    ports = await platform.start("127.0.0.1:0", "127.0.0.1:0")
    agents = E2Agents(network, f"127.0.0.1:{ports.nodes}", metrics=Metrics("e2sim"))
    await agents.start(5)
    feeder = FeederAgent.of(network, agents)
    await feeder.start()
    session = E3Session(feeder.endpoints, dapp_name="t", dapp_version="1", vendor="t", metrics=Metrics("dapp"))
    await session.start()
    windows, alarms = [], asyncio.Queue()
    following = asyncio.create_task(session.follow(lambda _, data: windows.append(decode_waveform(bytes(data)))))
    async with E2Client(f"127.0.0.1:{ports.xapps}", app_id="x", instance_id="1") as client:

        async def listen():
            model = (dapp.NAME, dapp.VERSION)
            async for pair in client.subscribe(NODE, model, trigger=b"", action=b"", transaction_id="t"):
                alarms.put_nowait(pair)

        listening = asyncio.create_task(listen())
        await until(lambda: feeder.subscribers == 1 and agents.agents[NODE].connection.subscriptions)
        start_s = network.scenario.start_s
        for end_s in network.scenario.instants():
            if end_s > start_s + 62.5:
                break
            await feeder.play(network.now_s, end_s)
            network.advance(end_s)
        await until(lambda: len(windows) == feeder.sent)
        await session.report(Alarm(managed_object="feeder/1").SerializeToString())
        header, message = await asyncio.wait_for(alarms.get(), 5)
        listening.cancel()
    following.cancel()
    await session.stop()
    await feeder.stop()
    await agents.stop()
    await platform.stop()

    report = dapp.decode_indication(header, message)
    assert report.alarm.managed_object == "feeder/1"
    assert report.source_time_ns == windows[-1].end_ns
    assert feeder.reports == 1
    starts = np.array([window.first_sample_ns for window in windows]) / 1e9 - start_s
    assert len(windows) == 500
    np.testing.assert_allclose(np.diff(starts), 0.005, atol=1e-6)
    # A ground fault of 10 ohm at 62 s: the neutral's current at the busbar multiplies.
    residual = np.array([np.abs(window.samples[0, :3].sum(axis=0)).max() for window in windows])
    assert residual[starts > 62.1].min() > 5 * residual[starts < 62.0 - 0.005].max()
