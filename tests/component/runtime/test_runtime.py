"""The loop that every app runs in: late, stale, failing, refused, stopping; each leads to a visible safe action."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from ric.app_spec import AppConfig, AppSpec, Ric
from ric.bus.bus import RIC_DECISIONS, TWIN_REPORTED, MemoryBus, Twins
from ric.clock import SimClock, SourceClock
from ric.columns import Table
from ric.config import FrozenModel
from ric.decision import Reason
from ric.errors import TwinRicError
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.runtime import App, AppRuntime
from ric.telemetry import Metrics

pytestmark = pytest.mark.timeout(30)


class Policy(FrozenModel):
    gain: float = 1.0


@dataclass(frozen=True)
class Decision:
    value: float
    reason: Reason
    source_time_ns: int


class Doubler(App[AppConfig, Policy, Table, Decision]):
    """Doubles what it reads; misbehaves as its `mood` says."""

    spec = AppSpec("doubler", Ric.NEAR_RT, 80.0, "doubler_1.0.0", frozenset())
    config_type = AppConfig
    policy_type = Policy
    mood = "well"

    def __init__(self, config, runtime):
        super().__init__(config, runtime)
        self.table = None
        self.acted = []
        self.is_closed = False

    async def close(self):
        self.is_closed = True

    async def connect(self):
        await self.runtime.follow_twins((TWIN_REPORTED,), self.on_twin)

    def on_twin(self, _, twin):
        if twin.table["soc"][0] > 0.9:
            raise TwinRicError("BUS-RANGE", "soc", 0.95, "0..0.9")
        self.table = twin.table
        return twin.source_time_ns

    def observe(self, now_ns):
        return self.table

    def unfit(self, state):
        return Reason("MODEL_MISSING") if self.mood == "model-less" else None

    def decide(self, state, policy):
        if self.mood == "late":
            time.sleep(0.3)
        if self.mood == "failing":
            raise ZeroDivisionError("no such number")
        return Decision(2 * policy.gain * float(state["soc"][0]), Reason("OPTIMAL"), state.source_time_ns)

    def fallback(self, state, policy, reason):
        return None if state is None else Decision(0.0, reason, state.source_time_ns)

    async def act(self, decision):
        if self.mood == "peer-less":
            raise TwinRicError("E2-LOST", "node", "n1", "a connected node")
        self.acted.append(decision)


def storage(time_s, soc=0.25):
    values = {"charge_kw": 0.0, "discharge_kw": 0.0, "soc": soc, "capacity_kwh": 1.0, "max_kw": 1.0, "efficiency": 0.9,
              "frequency_hz": 50.0}  # fmt: skip
    columns = {name: np.array([value]) for name, value in values.items()}
    return Table("storage_report", ("unit",), columns, time_s * 10**9)


class Bench:
    """One running app with a bus that the test writes to."""

    def __init__(self, app_type, clock=None, **settings):
        self.clock = clock or SimClock(1_000.0)
        self.bus = MemoryBus()
        config = AppConfig(a1_address="", stale_after_s=30.0, **settings)
        links = Links(app_type.spec, app_type.policy_type, config, self.clock, bus=self.bus)
        self.runtime = AppRuntime(app_type, config, links)
        self.app = self.runtime.app
        self.twins = Twins(self.bus, self.clock, Metrics("test"), "test")
        self.decisions = self.bus.follow([RIC_DECISIONS])

    async def feed(self, time_s, soc=0.25):
        table = storage(time_s, soc)
        await self.twins.publish(TWIN_REPORTED, "storage/n1", table.kind, table)

    async def decision(self):
        message = await asyncio.wait_for(anext(self.decisions), 5)
        return DecisionRecord.FromString(message.value)


@asynccontextmanager
async def running(mood="well", **settings):
    bench = Bench(Doubler, **settings)
    bench.app.mood = mood
    task = asyncio.create_task(bench.runtime.run())
    await bench.runtime.ready.wait()
    try:
        yield bench
    finally:
        bench.runtime.stop()
        await asyncio.wait_for(task, 5)


async def test_runtime_input_leads_to_one_decision_on_the_bus():
    async with running() as bench:
        await bench.feed(1_000)
        record = await bench.decision()
        assert (record.app, record.reason_code, record.safe_action) == ("doubler", "OPTIMAL", False)
        assert record.source_time_ns == 1_000 * 10**9
        assert bench.app.acted[0].value == 0.5
        assert len(record.trace_id) == 32


@pytest.mark.parametrize(
    ("mood", "reason"),
    [("late", "LATE"), ("failing", "DECISION_FAILED"), ("model-less", "MODEL_MISSING")],
)
async def test_runtime_no_decision_in_time_leads_to_the_safe_action(mood, reason):
    async with running(mood) as bench:
        await bench.feed(1_000)
        record = await bench.decision()
        assert (record.reason_code, record.safe_action) == (reason, True)
        assert bench.app.acted[0].value == 0.0
        samples = bench.runtime.metrics.registry.get_sample_value(
            "twinric_safe_actions_total", {"component": "doubler", "reason": reason}
        )
        assert samples == 1
        bench.app.mood = "well"
        await asyncio.sleep(0.4)
        await bench.feed(1_001)
        assert (await bench.decision()).reason_code == "OPTIMAL"


async def test_runtime_budget_not_enforced_counts_late_cycles_only():
    async with running("late", enforce_budget=False) as bench:
        await bench.feed(1_000)
        assert (await bench.decision()).reason_code == "OPTIMAL"
        assert bench.runtime.late_cycles == 1


async def test_runtime_silence_leads_to_the_safe_action_on_the_injected_clock():
    async with running() as bench:
        await bench.feed(1_000)
        await bench.decision()
        await bench.clock.advance_to(1_029.0)
        await bench.clock.advance_to(1_031.0)
        record = await bench.decision()
        assert (record.reason_code, record.safe_action) == ("STALE_INPUT", True)
        assert record.numbers["limit_s"] == 30.0


async def test_runtime_lost_peer_is_told_and_the_loop_goes_on():
    async with running("peer-less") as bench:
        await bench.feed(1_000)
        record = await bench.decision()
        assert "E2-LOST" in record.details["action_fault"]
        bench.app.mood = "well"
        await bench.feed(1_001)
        assert "action_fault" not in (await bench.decision()).details


async def test_runtime_refused_input_is_counted_and_changes_nothing():
    async with running() as bench:
        await bench.feed(1_000, soc=0.95)
        await bench.feed(1_001)
        record = await bench.decision()
        assert record.source_time_ns == 1_001 * 10**9
        refused = bench.runtime.metrics.registry.get_sample_value(
            "twinric_inputs_refused_total", {"component": "doubler", "code": "BUS-RANGE"}
        )
        assert refused == 1


async def test_runtime_wait_done_returns_after_the_cycle_of_that_time():
    async with running() as bench:
        await bench.feed(1_005)
        await asyncio.wait_for(bench.runtime.wait_done(1_005 * 10**9), 5)
        assert bench.app.acted[-1].source_time_ns == 1_005 * 10**9
        assert not bench.runtime.busy


class Waiting(Doubler):
    """Waits for a peer that never comes up."""

    async def connect(self):
        await asyncio.Event().wait()


class Unusable(Doubler):
    """Finds that its settings cannot work."""

    async def connect(self):
        raise TwinRicError("CONFIG-MISSING", "peer", "(absent)", "a peer")


async def test_runtime_told_to_stop_before_its_peer_is_up_stops():
    bench = Bench(Waiting)
    task = asyncio.create_task(bench.runtime.run())
    await asyncio.sleep(0.01)
    bench.runtime.stop()
    await asyncio.wait_for(task, 5)
    assert not bench.runtime.ready.is_set()
    assert bench.app.is_closed


async def test_runtime_fault_of_connect_reaches_the_caller_and_the_app_is_closed():
    bench = Bench(Unusable)
    with pytest.raises(TwinRicError, match="CONFIG-MISSING peer"):
        await asyncio.wait_for(bench.runtime.run(), 5)
    assert bench.app.is_closed


async def test_runtime_on_a_source_clock_takes_records_of_another_year_as_fresh():
    bench = Bench(Doubler, clock=SourceClock())
    task = asyncio.create_task(bench.runtime.run())
    await bench.runtime.ready.wait()
    for time_s in (1_000, 1_060):
        table = storage(time_s)
        await bench.twins.publish(TWIN_REPORTED, "storage/n1", table.kind, table, valid_for_ms=5_000)
        assert (await bench.decision()).decided_time_ns // 10**9 in range(time_s, time_s + 5)
    bench.runtime.stop()
    await asyncio.wait_for(task, 5)
