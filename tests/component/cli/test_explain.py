"""`twinric explain home`: from a decision on the bus to a sentence on the terminal."""

import asyncio
import subprocess
import sys

import pytest

from ric.bus.bus import RIC_DECISIONS, MemoryBus
from ric.clock import WallClock
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.platform import RicConfig, RicPlatform
from ric.telemetry import Metrics

TEXT = "EV_WAITS buy_eur_per_kwh=0.41 departure_h=9.5: Waiting because power costs 0.41 EUR/kWh now."


def _config():
    free = "127.0.0.1:0"
    return RicConfig(node_address=free, xapp_address=free, a1_address=free, a1_port=0, health_port=0)


async def explain(url, *arguments):
    command = [sys.executable, "-m", "ric", "explain", "home", *arguments, "--a1", url]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)


@pytest.mark.timeout(60)
async def test_explain_home_says_why_the_car_waits_and_what_it_does_not_know():
    bus = MemoryBus()
    await bus.start()
    platform = RicPlatform(_config(), bus, WallClock(), Metrics("ric"))
    bound = await platform.start()
    record = DecisionRecord(app="hems_load", source_time_ns=10**18, details={"n1/home-001/ev": TEXT})
    await bus.publish(RIC_DECISIONS, "hems_load", record.SerializeToString(), {})
    told, unknown = await asyncio.gather(
        explain(bound.a1_url, "home-001", "--device", "ev"), explain(bound.a1_url, "home-999")
    )
    await platform.stop()
    await bus.stop()
    assert told.returncode == 0
    assert "Waiting because power costs 0.41 EUR/kWh now." in told.stdout
    assert "EV_WAITS since 2001-09-09" in told.stdout
    assert "departure_h 9.5" in told.stdout
    assert unknown.returncode == 2
    assert "home-999" in unknown.stderr
