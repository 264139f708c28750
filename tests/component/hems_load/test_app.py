"""The app in its real runtime, on a memory bus and simulated time, with the simulator's homes as its E2 peer."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from e2sim.grid.residential import make_residential
from e2sim.grid.settings import ResidentialSettings
from ric.bus.bus import RIC_ALARMS, RIC_DECISIONS, TWIN_ACK, TWIN_DESIRED, TWIN_REPORTED, MemoryBus, Twins
from ric.bus.record import AckStatus, decode, decode_ack
from ric.clock import SimClock, to_ns, to_s
from ric.columns import Table
from ric.decision import Reason
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED, PERCEIVED_SEVERITY_MINOR, Alarm, DecisionRecord
from ric.runtime import AppRuntime
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS
from ric.telemetry import Metrics
from xapps.hems_load.app import HemsLoadApp
from xapps.hems_load.config import HemsConfig
from xapps.hems_load.decision import Decision
from xapps.hems_load.fleet import FleetDecision
from xapps.hems_load.optimizer import Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import NodeMemory

pytestmark = pytest.mark.timeout(60)
NODE, START_S = "00101-e2000001", 1_460_462_400.0


class Peer:
    """One E2 node behind the client's interface."""

    def __init__(self):
        settings = ResidentialSettings(homes=8)
        self.parts = make_residential(settings, node_id=NODE, start_s=START_S, days=1, seed=2)
        self.handler = None
        self.controls = []
        self.refuses = self.disobeys = False

    async def start(self):
        return

    async def stop(self):
        return

    async def follow(self, service_model, *, trigger, action, handler):
        assert service_model == (grid.NAME, grid.VERSION)
        assert grid.decode_trigger(trigger) == 60_000
        self.handler = handler
        await asyncio.Event().wait()

    async def control(self, e2_node_id, service_model, header, payload, *, deadline_s=1.0):
        if self.refuses:
            raise TwinRicError("E2-LOST", "peer", e2_node_id, "a connected node")
        control = grid.decode_control(header, payload)
        self.controls.append(control)
        part = next(p for p in self.parts.parts if control.set_points.kind in p.set_point_kinds)
        in_force = part.apply(control.set_points, to_s(control.valid_until_ns))
        if self.disobeys:
            columns = dict(in_force.columns) | {"hvac_kw": in_force["hvac_kw"] + 0.5}
            in_force = Table(in_force.kind, in_force.ids, columns, in_force.source_time_ns)
        return grid.encode_outcome(in_force)

    def report(self, minute, *, tells=True):
        end_s = START_S + 60 * minute
        tables = {t.kind: t for part in self.parts.parts for t in part.step(end_s, 60)}
        in_force = {kind: table for kind, table in tables.items() if kind in IN_FORCE_SCHEMAS}
        shown = {kind: table for kind, table in tables.items() if kind in GRID_SCHEMAS}
        in_force, starts_ns = (in_force, {"home_report": to_ns(end_s - 60)}) if tells else ({}, {})
        self.handler(NODE, *grid.encode_indication(grid.GridReport(NODE, to_ns(end_s), shown, in_force, starts_ns)))
        return to_ns(end_s)


@asynccontextmanager
async def running(policy=None, *, bus=None, **settings):
    clock, bus, peer = SimClock(START_S), bus or MemoryBus(), Peer()
    await bus.start()
    config = HemsConfig(a1_address="", enforce_budget=False, **{"quarter_steps": 24, **settings})
    links = Links(HemsLoadApp.spec, HemsLoadApp.policy_type, config, clock, bus=bus)
    links.e2 = peer
    runtime = AppRuntime(HemsLoadApp, config, links)
    if policy:
        runtime.policies.put("p", 1, policy, None)
    task = asyncio.create_task(runtime.run())
    await runtime.ready.wait()
    while peer.handler is None:
        await asyncio.sleep(0)
    yield runtime, peer, bus, clock
    runtime.stop()
    await task
    await bus.stop()


async def cycle(runtime, peer, clock, minute):
    await clock.advance_to(START_S + 60 * minute)
    due = peer.report(minute)
    await asyncio.wait_for(runtime.wait_done(due), 20)


def records(bus, topic):
    return list(bus._retained[topic])


def decisions(bus):
    return [DecisionRecord.FromString(message.value) for message in records(bus, RIC_DECISIONS)]


async def test_app_controls_every_home_and_publishes_the_twins():
    async with running() as (runtime, peer, bus, clock):
        for minute in range(1, 4):
            await cycle(runtime, peer, clock, minute)
        kinds = [control.set_points.kind for control in peer.controls]
        assert kinds.count("home_set_point") == 3
        assert set(kinds) <= {"home_set_point", "appliance_set_point"}
        assert peer.controls[0].set_points.ids == peer.parts.fleet.ids
        assert [d.reason_code for d in decisions(bus)] == ["FIRST_PLAN", "FOLLOW_PLAN", "FOLLOW_PLAN"]
        assert not any(d.safe_action for d in decisions(bus))
        twins = {key: decode(message.value) for key, message in (await bus.latest(TWIN_REPORTED)).items()}
        assert set(twins) == {f"{name}/{NODE}" for name in ("home_fleet", "feeder", "outlook", "storage")}
        assert twins[f"home_fleet/{NODE}"].revision == 3
        assert twins[f"outlook/{NODE}"].revision == 1


async def test_app_executes_the_storage_schedule_and_answers_it():
    async with running() as (runtime, peer, bus, clock):
        await cycle(runtime, peer, clock, 1)
        columns = {"step_s": np.array([900.0]), "charge_kw": np.array([[12.0, 0.0]]), "soc": np.array([[0.5, 0.5]]),
                   "discharge_kw": np.array([[0.0, 5.0]]), "reserve_kw": np.array([[4.0, 4.0]])}  # fmt: skip
        table = Table("storage_schedule", ("storage-1",), columns, to_ns(START_S + 60))
        scheduler = Twins(bus, clock, Metrics("test"), "storage_scheduling/1")
        await scheduler.publish(TWIN_DESIRED, f"storage_schedule/{NODE}", table.kind, table)
        for minute in (2, 3):
            await cycle(runtime, peer, clock, minute)
        stored = [c.set_points for c in peer.controls if c.set_points.kind == "storage_set_point"]
        assert stored
        assert stored[-1]["charge_kw"][0] == 12.0
        assert peer.parts.storage.net_kw == pytest.approx(12.0, abs=1.0)
        acks = [decode_ack(message.value) for message in records(bus, TWIN_ACK)]
        assert [ack.status for ack in acks] == [AckStatus.ACCEPTED]


async def test_app_without_reports_takes_the_safe_action():
    async with running() as (runtime, peer, bus, clock):
        await cycle(runtime, peer, clock, 1)
        await clock.advance_to(START_S + 60 + 181)
        for _ in range(200):
            await asyncio.sleep(0.005)
            if len(decisions(bus)) > 1:
                break
        last = decisions(bus)[-1]
        assert (last.reason_code, last.safe_action) == ("STALE_INPUT", True)
        points = peer.controls[-1].set_points
        np.testing.assert_array_equal(points["battery_kw"], 0)
        assert peer.controls[-1].valid_until_ns > to_ns(clock.now_s())


@pytest.mark.parametrize("mood", ["refuses", "disobeys"])
async def test_app_tells_when_the_node_does_not_do_as_asked(mood):
    async with running() as (runtime, peer, bus, clock):
        setattr(peer, mood, True)
        await cycle(runtime, peer, clock, 1)
        fault = decisions(bus)[-1].details["action_fault"]
        assert ("E2-LOST" if mood == "refuses" else "E2-UNVERIFIED") in fault


async def test_app_malformed_indications_are_counted_and_do_not_stop_it():
    async with running() as (runtime, peer, _, clock):
        await cycle(runtime, peer, clock, 1)
        peer.handler(NODE, b"\xff\xff", b"\x00garbage")
        bad = Table("home_report", ("x",), {"battery_soc": np.array([2.0])}, to_ns(START_S + 90))
        peer.handler(NODE, *grid.encode_indication(grid.GridReport(NODE, to_ns(START_S + 90), {"home_report": bad})))
        refused = sum(m.value for f in runtime.metrics.registry.collect() for m in f.samples
                      if m.name == "twinric_inputs_refused_total")  # fmt: skip
        assert refused == 2
        await cycle(runtime, peer, clock, 2)
        assert len(peer.controls) == 2


async def test_app_policy_status_tells_by_how_much_a_limit_is_missed():
    async with running({"import_cap_kw": 500.0, "reserve_kw": 1_000.0}) as (runtime, peer, bus, clock):
        await clock.advance_to(START_S + 60)
        told = []
        runtime.links.policy_feed = type("Sink", (), {"report": lambda self, *values: told.append(values)})()
        await cycle(runtime, peer, clock, 1)
        runtime.links.policy_feed = None
        policy_id, revision, enforced, reason, text = told[-1]
        missed = decisions(bus)[-1].numbers["reserve_miss_kw"]
        assert (policy_id, revision) == ("p", 1)
        assert 900 < missed < 1_000
        assert (enforced, reason) == (False, "OTHER_REASON")
        assert text == f"{NODE}: {missed:.1f} kW of the reserve are missing"


class Bus(MemoryBus):
    """A bus that can be away."""

    away = False

    async def publish(self, topic, key, value, headers):
        if self.away:
            raise TwinRicError("BUS-UNREACHABLE", "bus", "memory://", "a bus that is there")
        await super().publish(topic, key, value, headers)


async def test_app_tells_homes_over_e2_while_the_bus_is_away_and_its_twins_when_it_is_back():
    bus = Bus()
    async with running(bus=bus) as (runtime, peer, _, clock):
        bus.away = True
        for minute in (1, 2):
            await cycle(runtime, peer, clock, minute)
        assert [c.set_points.kind for c in peer.controls].count("home_set_point") == 2
        assert not await bus.latest(TWIN_REPORTED)
        bus.away = False
        await cycle(runtime, peer, clock, 3)
        assert f"outlook/{NODE}" in await bus.latest(TWIN_REPORTED)


@asynccontextmanager
async def homes_on_the_bus(peer, bus, clock, *, obey):
    """The homes' side of `twin.desired`: obeys while `obey()`, refuses otherwise."""
    twins = Twins(bus, clock, Metrics("homes"), "homes/1")
    answers = set()

    def on_desired(_, twin):
        if twin.kind not in ("home_set_point", "appliance_set_point"):
            return
        status, reason = AckStatus.REJECTED, "not today"
        if obey():
            part = next(p for p in peer.parts.parts if twin.kind in p.set_point_kinds)
            part.apply(twin.table, to_s(twin.source_time_ns) + twin.valid_for_ms / 1e3)
            status, reason = AckStatus.ACCEPTED, ""
        answers.add(asyncio.create_task(twins.acknowledge(twin, status, reason)))

    task = asyncio.create_task(await twins.following([TWIN_DESIRED], on_desired))
    yield
    task.cancel()
    await asyncio.gather(task, *answers, return_exceptions=True)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_app_tells_homes_by_desired_state_where_so_configured_and_never_twice():
    async with running(desired_by_bus=(NODE,)) as (runtime, peer, bus, clock):
        async with homes_on_the_bus(peer, bus, clock, obey=lambda: True):
            for minute in range(1, 8):
                await cycle(runtime, peer, clock, minute)
                await settle()
        assert not [c for c in peer.controls if c.set_points.kind in ("home_set_point", "appliance_set_point")]
        newest = decode((await bus.latest(TWIN_DESIRED))[f"home_set_point/{NODE}"].value)
        assert (newest.kind, newest.revision, newest.expected_revision) == ("home_set_point", 7, 7)
        assert newest.table.ids == peer.parts.fleet.ids
        assert newest.valid_for_ms == 300_000
        acks = [decode_ack(message.value) for message in records(bus, TWIN_ACK)]
        assert [a.status for a in acks if a.twin_id.startswith("home_")] == [AckStatus.ACCEPTED] * 7
        shown = peer.parts.fleet.step(START_S + 480, 60)[0]
        np.testing.assert_allclose(shown["battery_kw"], newest.table["battery_kw"], atol=0.1)
        # Whatever an earlier life of the app has raised is over.
        (cleared,) = [Alarm.FromString(message.value) for message in records(bus, RIC_ALARMS)]
        assert cleared.perceived_severity == PERCEIVED_SEVERITY_CLEARED
        assert cleared.managed_object == f"home_fleet/{NODE}"


async def test_app_raises_an_alarm_with_the_reason_while_homes_do_not_follow_and_clears_it():
    moods = {"obeys": False}
    async with running(desired_by_bus=(NODE,), confirm_within_s=120.0) as (runtime, peer, bus, clock):
        async with homes_on_the_bus(peer, bus, clock, obey=lambda: moods["obeys"]):
            for minute in range(1, 12):
                moods["obeys"] = minute > 6
                await cycle(runtime, peer, clock, minute)
                await settle()
        alarms = [Alarm.FromString(message.value) for message in records(bus, RIC_ALARMS)]
        assert [a.perceived_severity for a in alarms] == [PERCEIVED_SEVERITY_MINOR, PERCEIVED_SEVERITY_CLEARED]
        raised = alarms[0]
        assert raised.managed_object == f"home_fleet/{NODE}"
        assert raised.numbers["homes"] >= 1
        assert raised.numbers["for_s"] > 120
        assert "rejected: not today" in raised.details["why"]
        assert raised.details["homes"].startswith("home-")
        assert 3 <= (raised.detected_time_ns / 1e9 - START_S) / 60 <= 6


async def test_app_says_once_that_reports_cannot_confirm_what_homes_were_told(capsys):
    async with running(desired_by_bus=(NODE,)) as (runtime, peer, bus, clock):
        for minute in (1, 2):
            await clock.advance_to(START_S + 60 * minute)
            await asyncio.wait_for(runtime.wait_done(peer.report(minute, tells=False)), 20)
        assert not records(bus, RIC_ALARMS)
    assert capsys.readouterr().out.count("reports do not tell whether homes follow") == 1


async def test_app_tells_the_status_of_each_groups_policy_and_whose_groups_there_are():
    groups = {"near": (f"{NODE}/home-01*", f"{NODE}/home-00?"), "far": ("00101-e2000009/home-*",)}
    async with running(home_groups=groups, quarter_steps=60) as (runtime, peer, bus, clock):  # into the night
        told = {}
        sink = type("Sink", (), {"report": lambda self, name, *values: told.__setitem__(name, values)})()
        runtime.links.policy_feed = sink
        bodies = {
            "easy": {"scope": {"home_group": "near"}, "import_cap_kw": 500.0},
            "else": {"scope": {"home_group": "far"}, "import_cap_kw": 5.0},
            "wide": {"scope": {"home_group": "near"}, "comfort_eur_per_k_h": 2.0},
        }
        await cycle(runtime, peer, clock, 1)
        for name, body in bodies.items():
            runtime.policies.put(name, 1, body, sink)
        await cycle(runtime, peer, clock, 2)
        assert told["easy"] == (1, True, "", "")
        assert told["else"][1:3] == (False, "SCOPE_NOT_APPLICABLE")
        assert told["wide"][1:3] == (False, "STATEMENT_NOT_APPLICABLE")
        assert "for a home group only" in told["wide"][3]
        runtime.policies.put("easy", 2, bodies["easy"] | {"import_cap_kw": 0.0}, sink)
        for minute in range(3, 6):
            await cycle(runtime, peer, clock, minute)
        runtime.links.policy_feed = None
        missed = decisions(bus)[-1].numbers["near/cap_miss_kw"]
        revision, enforced, reason, text = told["easy"]
        assert missed > 0
        assert (revision, enforced, reason) == (2, False, "OTHER_REASON")
        assert text == f"{NODE}, homes of near: import beyond the limit by {missed:.1f} kW, now or as planned"


async def test_app_policy_status_of_a_node_stands_while_other_nodes_decide():
    async with running() as (runtime, peer, _, clock):
        await cycle(runtime, peer, clock, 1)
        app, policy = runtime.app, HemsPolicy(e2_node_id=NODE, import_cap_kw=5.0)
        app._memories["other"] = NodeMemory()
        mine, theirs = (decision_of(node, missed) for node, missed in ((NODE, 2.0), ("other", 0.0)))
        assert outcome(app, policy, mine).text == f"{NODE}: import beyond the limit by 2.0 kW, now or as planned"
        assert not outcome(app, policy, theirs).enforced
        assert outcome(app, HemsPolicy(e2_node_id="other", import_cap_kw=5.0), theirs).enforced
        assert outcome(app, policy, decision_of(NODE, 0.0)).enforced
        assert "no decision under the policy, SOLVE_FAILED" in outcome(app, policy, decision_of(NODE, None)).text


async def test_app_what_a_late_decision_would_have_told_is_told_by_what_is_done_instead(monkeypatch):
    released, decide = threading.Event(), Optimizer.decide

    def slow(self, *arguments):
        made = decide(self, *arguments)
        released.wait(10)
        return made

    async with running() as (runtime, peer, bus, clock):
        await cycle(runtime, peer, clock, 1)
        runtime.config = runtime.config.model_copy(update={"enforce_budget": True})
        runtime.spec = replace(runtime.spec, budget_ms=400.0)
        runtime.policies.put("p", 1, {"export_allowed": False}, None)
        with monkeypatch.context() as patch:
            patch.setattr(Optimizer, "decide", slow)
            await cycle(runtime, peer, clock, 2)
        late = decisions(bus)[-1]
        assert (late.reason_code, late.safe_action) == ("LATE", True)
        assert [line for name, line in late.details.items() if name.endswith("/generation")]
        released.set()
        await runtime._deciding
        runtime.config = runtime.config.model_copy(update={"enforce_budget": False})
        await cycle(runtime, peer, clock, 3)
        then = decisions(bus)[-1]
        assert then.reason_code == "FOLLOW_PLAN", "the plan that came too late is in force"
        told = {name: line.split(" ")[0] for name, line in late.details.items()}
        assert not {name for name, line in then.details.items() if told.get(name) == line.split(" ")[0]}


async def test_app_policy_is_judged_once_all_nodes_in_its_scope_were_decided_under_it():
    async with running() as (runtime, peer, _, clock):
        await cycle(runtime, peer, clock, 1)
        app, policy = runtime.app, HemsPolicy(import_cap_kw=5.0)
        app._memories["other"] = NodeMemory()
        assert outcome(app, policy, decision_of("other", 0.0)).enforced
        assert outcome(app, policy, decision_of("other", 0.0, policies=1)) is None
        missed = outcome(app, policy, decision_of("other", 3.0, policies=1))
        assert missed.text == "other: import beyond the limit by 3.0 kW, now or as planned"
        assert outcome(app, policy, decision_of("other", 0.0, policies=1)) is None
        assert outcome(app, policy, decision_of(NODE, 0.0, policies=1)).enforced


async def test_app_policy_for_a_node_that_does_not_report_is_not_enforced():
    async with running() as (runtime, peer, _, clock):
        await cycle(runtime, peer, clock, 1)
        app, policy = runtime.app, HemsPolicy(e2_node_id=NODE, import_cap_kw=5.0)
        app._memories["other"] = NodeMemory()  # as a forecast makes one
        for scoped in (HemsPolicy(e2_node_id="other", import_cap_kw=5.0), HemsPolicy(e2_node_id="other")):
            told = outcome(app, scoped, decision_of(NODE, 0.0))
            assert (told.enforced, told.text) == (False, "no node in its scope reports")
        assert outcome(app, policy, decision_of("other", 0.0, after_s=180)).enforced
        assert not outcome(app, policy, decision_of("other", 0.0, after_s=181)).enforced


def outcome(app, policy, decision):
    """What becomes of the policy with a decision that has been acted on."""
    app._note(decision)
    return app.policy_outcome(policy, decision)


def decision_of(node, missed_kw, *, after_s=0, policies=0):
    """A fleet decision of one node that misses its cap by so much; None for a safe action."""
    table, time_ns = Table("home_set_point", (), {}, to_ns(START_S)), to_ns(START_S + after_s)
    missed = {} if missed_kw is None else {"cap": missed_kw}
    made = Decision(node, time_ns, table, None, None, Reason("SOLVE_FAILED"), missed)
    return FleetDecision.of((made,), policies)
