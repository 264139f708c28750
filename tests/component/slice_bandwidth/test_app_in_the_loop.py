"""The app in its real runtime, on a memory bus and simulated time, with an E2 peer that keeps a FlexE calendar."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from e2sim.ran.flexe import FlexeCalendar
from ric.bus.bus import RIC_DECISIONS, TWIN_REPORTED, MemoryBus
from ric.bus.record import decode
from ric.clock import SimClock
from ric.e2sm import ccc, dapp, kpm
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import (
    PERCEIVED_SEVERITY_CLEARED,
    PERCEIVED_SEVERITY_CRITICAL,
    Alarm,
    DecisionRecord,
)  # fmt: skip
from ric.runtime import AppRuntime
from xapps.slice_bandwidth.app import SliceBandwidthApp
from xapps.slice_bandwidth.config import SliceBandwidthConfig
from xapps.slice_bandwidth.model import S_NSSAI
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import MEASUREMENT_NAMES

pytestmark = pytest.mark.timeout(60)
NODE = "00101-e2000001"
START_S = 1_000_000


class Peer:
    """One E2 node behind the client's interface: hands indications to the app, puts controls in force."""

    def __init__(self):
        self.calendar = FlexeCalendar((5, 10, 5), (1, 2, 1))
        self.handlers = {}
        self.controls = []
        self.disobeys = False

    async def start(self):
        return

    async def stop(self):
        return

    async def follow(self, service_model, *, trigger, action, handler):
        self.handlers[service_model[0]] = handler
        await asyncio.Event().wait()

    async def control(self, e2_node_id, service_model, header, payload, *, deadline_s=1.0):
        ratios = ccc.decode_control(header, payload)
        by_name = {ratio.s_nssai: ratio.rrm_policy_dedicated_ratio // ccc.SLOT_PERCENT for ratio in ratios}
        slots = [by_name[name] for name in S_NSSAI]
        self.controls.append(slots)
        if not self.disobeys:
            self.calendar.allocate(slots)
        held = self.calendar.slots
        return ccc.encode_outcome(
            tuple(
                ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=int(number) * 5)
                for name, number in zip(S_NSSAI, held, strict=True)
            )
        )

    def report(self, step, load_mbps, period_ms=100, node=NODE, queue_mbit=(0.0, 0.0, 0.0)):
        items = tuple(kpm.KpmItem("", name) for name in S_NSSAI)
        volume = np.array(load_mbps) * period_ms / 1e3
        rows = {
            "DRB.PdcpSduVolumeDL": volume,
            "TWINRIC.FlexeSlots": self.calendar.slots,
            "DRB.RlcSduDelayDl": [5.0] * 3,
        }
        values = np.array([np.asarray(rows.get(name, np.ones(3)), dtype=float) for name in MEASUREMENT_NAMES])
        values[MEASUREMENT_NAMES.index("TWINRIC.QueueDl")] = queue_mbit
        time_ns = START_S * 10**9 + step * period_ms * 1_000_000
        report = kpm.KpmReport(node, time_ns, period_ms, MEASUREMENT_NAMES, items, values)
        self.handlers[kpm.NAME](node, *kpm.encode_indication(report))

    def alarm(self, step, severity=PERCEIVED_SEVERITY_CRITICAL, application="fault_alarm"):
        alarm = Alarm(managed_object="feeder/lv1/section/3", application=application,
                      specific_problem="PHASE_TO_GROUND", perceived_severity=severity)  # fmt: skip
        time_ns = START_S * 10**9 + step * 100_000_000 + 7_000_000
        self.handlers[dapp.NAME](NODE, *dapp.encode_indication(dapp.DAppReport(NODE, time_ns, 1, 1, alarm)))


class Bench:
    def __init__(self, policy, settings):
        self.clock, self.bus, self.peer = SimClock(float(START_S)), MemoryBus(), Peer()
        config = SliceBandwidthConfig(a1_address="", stale_after_s=30.0, enforce_budget=False, **settings)
        links = Links(SliceBandwidthApp.spec, SlicePolicy, config, self.clock, bus=self.bus)
        links.e2 = self.peer
        self.runtime = AppRuntime(SliceBandwidthApp, config, links)
        self.runtime.policies.put("p1", 1, policy, None)
        self.decisions = self.bus.follow([RIC_DECISIONS])

    async def decision(self):
        message = await asyncio.wait_for(anext(self.decisions), 10)
        return DecisionRecord.FromString(message.value)

    async def after(self, step, load_mbps, **others):
        await self.clock.advance_to(START_S + step * 0.1)
        self.peer.report(step, load_mbps, **others)
        return await self.decision()

    async def twin(self):
        held = await self.bus.latest(TWIN_REPORTED)
        return decode(held[f"slice/{NODE}"].value)


@asynccontextmanager
async def running(policy=None, **settings):
    bench = Bench(policy or {}, settings)
    task = asyncio.create_task(bench.runtime.run())
    await bench.runtime.ready.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    try:
        yield bench
    finally:
        bench.runtime.stop()
        await asyncio.wait_for(task, 5)


CALM, CONGESTED = (8e3, 4e3, 9e3), (48e3, 4e3, 9e3)


@pytest.mark.parametrize("mode", ["rl", "oracle"])
async def test_app_congestion_of_control_is_answered_in_one_cycle_and_verified(mode):
    async with running({"mode": mode}) as bench:
        for step in range(1, 5):
            await bench.after(step, CALM)
        before = bench.peer.calendar.slots[0]
        record = await bench.after(5, CONGESTED)
        assert bench.peer.calendar.slots[0] > before
        assert bench.peer.calendar.slots[0] >= 8
        assert not record.safe_action
        numbers = record.numbers
        assert numbers["objective_after"] + 3 * numbers["violations_after"] < (
            numbers["objective_before"] + 3 * numbers["violations_before"]
        )
        twin = await bench.twin()
        assert twin.table["flexe_slots"].tolist() == bench.peer.calendar.slots.tolist()
        assert twin.table["offered_mbps"] == pytest.approx(CONGESTED)


async def test_app_controls_only_when_the_split_changes():
    async with running({"mode": "static"}) as bench:
        for step in range(1, 4):
            record = await bench.after(step, CALM)
            assert record.reason_code == "STATIC_SPLIT"
        assert bench.peer.controls == []


async def test_app_fault_alarm_puts_protection_and_control_first_until_the_hold_is_over():
    async with running({"mode": "oracle", "alarm_hold_s": 0.5}) as bench:
        for step in range(1, 4):
            await bench.after(step, CALM)
        assert bench.peer.calendar.slots[1] < 8
        bench.peer.alarm(3)
        record = await bench.decision()
        assert record.reason_code == "PROTECTION_FIRST"
        assert bench.peer.calendar.slots[0] >= 5
        assert bench.peer.calendar.slots[1] >= 8
        await bench.after(4, CALM)
        bench.peer.alarm(4, PERCEIVED_SEVERITY_CLEARED)
        assert (await bench.decision()).reason_code == "PROTECTION_FIRST"
        await bench.after(6, CALM)
        assert bench.peer.calendar.slots[1] >= 8
        await bench.after(12, CALM)
        assert bench.peer.calendar.slots[1] < 8


async def test_app_alarms_of_other_applications_change_nothing():
    async with running({"mode": "static"}) as bench:
        await bench.after(1, CALM)
        bench.peer.alarm(1, application="microgrid_guard")
        assert (await bench.after(2, CALM)).reason_code == "STATIC_SPLIT"


async def test_app_missing_model_falls_back_visibly_and_only_in_mode_rl(tmp_path):
    async with running(model_path=str(tmp_path / "none.onnx")) as bench:
        record = await bench.after(1, CONGESTED)
        assert (record.reason_code, record.safe_action) == ("MODEL_MISSING", True)
        assert record.details["safe_action"] == "gradient_eq2"
    async with running({"mode": "oracle"}, model_path=str(tmp_path / "none.onnx")) as bench:
        assert (await bench.after(1, CONGESTED)).reason_code == "PREDICT_AND_ENUMERATE"


@pytest.mark.parametrize("mode", ["rl", "oracle"])
async def test_app_missing_forecaster_falls_back_visibly(tmp_path, mode):
    async with running({"mode": mode}, forecaster_path=str(tmp_path / "none.onnx")) as bench:
        assert (await bench.after(1, CONGESTED)).reason_code == "MODEL_MISSING"


async def test_app_partial_policies_merge_per_slice_and_hold_from_the_next_decision():
    async with running({"mode": "static", "control": {"alpha": 0.9}}) as bench:
        await bench.after(1, CALM)
        bench.runtime.policies.put("p2", 1, {"control": {"floor_slots": 7}, "monitoring": {"ceiling_slots": 3}}, None)
        await bench.after(2, CALM)
        assert bench.peer.calendar.slots[0] >= 7
        assert bench.peer.calendar.slots[2] <= 3
        control = bench.runtime.policies.effective().control
        assert (control.alpha, control.floor_slots, control.d_max_ms) == (0.9, 7, 50.0)


async def test_app_policy_of_another_node_changes_nothing_here():
    async with running({"mode": "static"}) as bench:
        await bench.after(1, CALM)
        bench.runtime.policies.put("p2", 1, {"scope": {"e2_node_id": "elsewhere"}, "mode": "gradient"}, None)
        assert (await bench.after(2, CONGESTED)).reason_code == "STATIC_SPLIT"
        bench.runtime.policies.put("p3", 1, {"scope": {"e2_node_id": NODE}, "mode": "gradient"}, None)
        assert (await bench.after(3, CONGESTED)).reason_code == "GRADIENT_TRANSFER"


async def test_app_policy_of_a_node_is_not_enforced_by_what_was_decided_for_others():
    async with running() as bench:
        told = []
        bench.runtime.links.policy_feed = type("Sink", (), {"report": lambda self, *values: told.append(values)})()
        await bench.after(1, CALM)
        bench.runtime.policies.put("p2", 1, {"scope": {"e2_node_id": NODE}, "mode": "static"}, None)
        await bench.clock.advance_to(START_S + 0.2)
        bench.peer.report(1, CALM, node="00101-e2000009")
        await bench.decision()
        assert "p2" not in [policy_id for policy_id, *_ in told]
        await bench.after(3, CALM)
        bench.runtime.links.policy_feed = None
        assert ("p2", 1, True, "", "") in told


async def test_app_overrides_are_counted_by_layer():
    async with running({"mode": "rl", "max_moved_slots": 1}) as bench:
        for step in range(1, 4):
            record = await bench.after(step, CONGESTED)
        assert "RATE_LIMIT" in record.details["overrides"]
        counted = bench.runtime.metrics.registry.get_sample_value(
            "twinric_slice_overrides_total", {"layer": "RATE_LIMIT"}
        )
        assert counted >= 1


async def test_app_keeps_a_packet_delay_budget_from_the_next_decision_on():
    async with running({"mode": "rl", "max_moved_slots": 20}) as bench:
        waiting = {"queue_mbit": (400.0, 0.0, 0.0)}  # 10 ms on 8 slots
        record = await bench.after(1, CALM, **waiting)
        assert "overrides" not in record.details
        assert bench.peer.calendar.slots[0] < 8
        bench.runtime.policies.put("p2", 1, {"control": {"packet_delay_budget_ms": 10}}, None)
        record = await bench.after(2, CALM, **waiting)
        assert record.details["overrides"] == "DELAY_BUDGET"
        assert bench.peer.calendar.slots[0] >= 8


async def test_app_decides_every_10_ms_where_reports_come_that_often():
    async with running({"mode": "rl"}, granularity_period_ms=10) as bench:
        for step in range(1, 6):
            await bench.clock.advance_to(START_S + step * 0.01)
            bench.peer.report(step, CONGESTED, period_ms=10)
            assert (await bench.decision()).reason_code == "RL_ACTOR"
        assert bench.peer.calendar.slots[0] > 5


async def test_app_model_of_the_wrong_shape_falls_back_visibly(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["rows", "last"], ["scores"], keepdims=0)], "wrong",
        [helper.make_tensor_value_info("rows", float32, ["R", 7])],
        [helper.make_tensor_value_info("scores", float32, ["R"])],
        [onnx.numpy_helper.from_array(np.array([1]), "last")],
    )  # fmt: skip
    path = tmp_path / "wrong.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    async with running(model_path=str(path)) as bench:
        assert (await bench.after(1, CALM)).reason_code == "MODEL_SHAPE"
    path.write_bytes(b"no graph at all")
    async with running(model_path=str(path)) as bench:
        assert (await bench.after(1, CALM)).reason_code == "MODEL_SHAPE"


async def test_app_control_that_took_no_effect_is_told_and_the_twin_shows_what_holds():
    async with running({"mode": "oracle"}) as bench:
        bench.peer.disobeys = True
        record = await bench.after(1, CONGESTED)
        assert "E2-UNVERIFIED" in record.details["action_fault"]
        assert (await bench.twin()).table["flexe_slots"].tolist() == [5, 10, 5]


async def test_app_silence_returns_to_the_static_split():
    async with running({"mode": "oracle"}) as bench:
        await bench.after(1, CONGESTED)
        assert bench.peer.calendar.slots.tolist() != [5, 10, 5]
        await bench.clock.advance_to(START_S + 29.0)
        await bench.clock.advance_to(START_S + 40.0)
        record = await bench.decision()
        assert (record.reason_code, record.details["safe_action"]) == ("STALE_INPUT", "static")
        assert bench.peer.calendar.slots.tolist() == [5, 10, 5]


async def test_app_garbage_is_refused_and_the_loop_goes_on():
    async with running({"mode": "static"}) as bench:
        await bench.after(1, CALM)
        bench.peer.handlers[kpm.NAME](NODE, b"\xff\xff", b"\xff\xff")
        bench.peer.handlers[dapp.NAME](NODE, b"\xff\xff", b"\xff\xff")
        assert (await bench.after(2, CALM)).reason_code == "STATIC_SPLIT"
        refused = bench.runtime.metrics.registry.get_sample_value(
            "twinric_inputs_refused_total", {"component": "slice_bandwidth", "code": "E2-MALFORMED"}
        )
        assert refused == 2


async def test_app_instances_share_the_nodes_by_partition_and_answer_several_in_one_cycle():
    nodes = [f"00101-e200000{number}" for number in range(1, 9)]
    decided = []
    for partition in (0, 1):
        async with running({"mode": "rl"}, partitions=2, partition=partition) as bench:
            await bench.clock.advance_to(START_S + 0.1)
            for node in nodes:
                bench.peer.report(1, CONGESTED, node=node)
            record = await bench.decision()
            names = {key.split("/")[0] for key in record.numbers if "/" in key}
            decided.append(names)
            assert record.numbers["moved_slots"] > 0
    assert decided[0] | decided[1] == set(nodes)
    assert not decided[0] & decided[1]
    assert min(len(names) for names in decided) > 1


async def test_app_nodes_of_an_aggregation_link_hold_back_for_each_other():
    nodes = [f"00101-e200000{number}" for number in range(1, 4)]
    link = {"link_id": "ring-1", "e2_node_ids": nodes, "capacity_mbps": 60_000}
    heavy = (8e3, 4e3, 30e3)
    records = {}
    for name, links in (("alone", []), ("jointly", [link])):
        async with running({"mode": "rl"}, aggregation_links=links) as bench:
            for step in range(1, 4):
                await bench.clock.advance_to(START_S + step * 0.1)
                for node in nodes:
                    bench.peer.report(step, heavy, node=node)
                records[name] = await bench.decision()
            sample = bench.runtime.metrics.registry.get_sample_value
            held = sample("twinric_slice_overrides_total", {"layer": "SHARED_LINK"})
            backlog = sample("twinric_slice_link_backlog_mbit", {"link": "ring-1", "slice": "monitoring"})
            assert (held is None, backlog is None) == (not links, not links)
    assert records["alone"].reason_code == "RL_ACTOR"
    jointly = records["jointly"]
    assert jointly.reason_code == "SHARED_LINK"
    assert not jointly.safe_action
    helped = {key: value for key, value in jointly.details.items() if key.endswith("/held_back_for")}
    assert helped
    assert all(set(value.split(",")) <= set(nodes) for value in helped.values())
    slots = [
        sum(record.numbers[f"{node}/monitoring_flexe_slots_after"] for node in nodes) for record in records.values()
    ]
    assert slots[1] < slots[0]
