"""The fault alarm in its runtime against a real E3 agent: alarm and clearing, the safe action, a DU that restarts."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import numpy as np
import pytest

from dapps.fault_alarm.app import FaultAlarmApp
from dapps.fault_alarm.config import FaultAlarmConfig
from e2sim.e3_agent import E3Agent
from e2sim.grid.waveforms import FaultEvent, FeederWaveforms
from ric.bus.bus import RIC_DECISIONS
from ric.clock import WallClock
from ric.e3.e3ap import Waveform
from ric.e3.session import E3Endpoints
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, DecisionRecord, PerceivedSeverity
from ric.runtime import AppRuntime
from ric.telemetry import Metrics

pytestmark = pytest.mark.timeout(60)
FREE = E3Endpoints(*["tcp://127.0.0.1:0"] * 3)
CLEARED = PerceivedSeverity.PERCEIVED_SEVERITY_CLEARED
FAULT = FaultEvent("PHASE_TO_GROUND", 3, 0.2, 0.2, 5.0, 1)


class Du:
    """An E3 agent that plays a feeder with one fault and keeps the alarms it is told."""

    def __init__(self, endpoints=FREE):
        self.alarms = []
        self.agent = E3Agent(endpoints, "du-1", on_report=self._on_report, metrics=Metrics("du"))

    async def _on_report(self, dapp_identifier, sequence_id, data):
        self.alarms.append(Alarm.FromString(data))

    async def play(self, *, number=140, first_ns=0, neutral="low_resistance"):
        feeder = FeederWaveforms(np.random.default_rng(5), [FAULT], neutral=neutral)
        feeder.jump_to(0.0)
        for sequence in range(number):
            window = Waveform(4_000, sequence, first_ns + sequence * 5_000_000, feeder.next_window(20))
            await self.agent.indicate(window)
            await asyncio.sleep(0.001)


async def until(condition, limit_s=15.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(du, **settings):
    await du.agent.start()
    ends = du.agent.endpoints
    config = FaultAlarmConfig(
        a1_address="", feeder="mv7", e3_setup_endpoint=ends.setup, e3_inbound_endpoint=ends.inbound,
        e3_outbound_endpoint=ends.outbound, stale_after_s=60, **settings,
    )  # fmt: skip
    links = Links(FaultAlarmApp.spec, FaultAlarmApp.policy_type, config, WallClock())
    runtime = AppRuntime(FaultAlarmApp, config, links)
    task = asyncio.create_task(runtime.run())
    await runtime.ready.wait()
    await until(lambda: du.agent.subscribers == 1)
    try:
        yield runtime
    finally:
        runtime.stop()
        await task
        await du.agent.stop()


@pytest.mark.parametrize("busy_poll", [False, True], ids=["sleeping", "polling"])
async def test_fault_is_raised_where_it_is_and_cleared_when_it_is_gone(busy_poll):
    du = Du()
    async with running(du, busy_poll=busy_poll):
        await du.play()
        await until(lambda: len(du.alarms) == 2)
    raised, cleared = du.alarms
    assert raised.managed_object == cleared.managed_object == "feeder/mv7/section/3"
    assert raised.specific_problem == cleared.specific_problem == "PHASE_TO_GROUND"
    assert raised.perceived_severity != CLEARED
    assert cleared.perceived_severity == CLEARED
    assert 200 <= raised.event_time_ns / 1e6 <= 206
    assert 0 < raised.detection_ms <= 20
    assert raised.compute_ms > 0
    assert "section 3" in raised.details["isolation_advice"]


async def test_missing_model_leaves_the_alarm_to_the_relay_visibly(tmp_path):
    du = Du()
    async with running(du, model_path=tmp_path / "none.onnx") as runtime:
        decisions = runtime.links.bus.follow([RIC_DECISIONS], from_start=True)
        await du.play(neutral="isolated")
        await until(lambda: du.alarms)
        record = DecisionRecord.FromString((await anext(decisions)).value)
    assert record.reason_code == "MODEL_MISSING"
    assert record.safe_action
    assert du.alarms[0].specific_problem == "PHASE_TO_GROUND"


async def test_windows_that_are_not_the_feeders_are_refused_and_the_next_served():
    du = Du()
    async with running(du) as runtime:
        await du.agent.indicate(Waveform(4_000, 0, 0, np.zeros((2, 6, 20), np.float32)))
        await du.agent.indicate(Waveform(16_000, 0, 0, np.zeros((4, 6, 20), np.float32)))
        await du.play()
        await until(lambda: len(du.alarms) == 2)
        assert runtime.metrics.refused.labels("fault_alarm", "E3-RANGE")._value.get() == 2


async def test_du_that_restarts_and_counts_from_zero_is_listened_to():
    """Its windows are old by sequence only; the alarm must come all the same."""
    du = Du()
    async with running(du):
        await du.play(number=30)
        await du.agent.stop()
        again = Du(du.agent.endpoints)
        await again.agent.start()
        await until(lambda: again.agent.subscribers == 1)
        await again.play(first_ns=10_000_000_000)
        await until(lambda: again.alarms)
        await again.agent.stop()
        await du.agent.start()
    assert again.alarms[0].managed_object == "feeder/mv7/section/3"


def test_lock_memory_says_whether_it_worked():
    """In a process of its own: locked memory stays locked."""
    code = "from dapps.fault_alarm.app import lock_memory; print(lock_memory())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() in ("True", "False")
