"""An alarm from the bus or a dApp to the active list, over REST, and to a VES collector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.bus.bus import RIC_ALARMS, MemoryBus
from ric.clock import SimClock, WallClock
from ric.delivery import Delivery, RetryPlan
from ric.errors import TwinRicError
from ric.o1.alarms import AlarmDelays
from ric.o1.fault_service import FaultService, alarm_router
from ric.pb.twinric.bus.v1 import record_pb2
from ric.sdl import Sdl
from ric.servers import rest_app, serve
from ric.telemetry import Metrics

START_S = 1_700_000_000.0

# The required part of VES 7.2.1, written down from the published common event format.
VES_FAULT = {
    "type": "object",
    "required": ["event"],
    "properties": {
        "event": {
            "required": ["commonEventHeader", "faultFields"],
            "additionalProperties": False,
            "properties": {
                "commonEventHeader": {
                    "required": [
                        "domain", "eventId", "eventName", "lastEpochMicrosec", "priority", "reportingEntityName",
                        "sequence", "sourceName", "startEpochMicrosec", "version", "vesEventListenerVersion",
                    ],
                    "properties": {
                        "domain": {"const": "fault"},
                        "priority": {"enum": ["High", "Medium", "Normal", "Low"]},
                        "sequence": {"type": "integer", "minimum": 0},
                        "startEpochMicrosec": {"type": "number"},
                        "lastEpochMicrosec": {"type": "number"},
                        "version": {"enum": ["4.0", "4.0.1", "4.1"]},
                        "vesEventListenerVersion": {"enum": ["7.0", "7.0.1", "7.1", "7.1.1", "7.2", "7.2.1"]},
                    },
                },
                "faultFields": {
                    "required": [
                        "alarmCondition", "eventSeverity", "eventSourceType", "faultFieldsVersion", "specificProblem",
                        "vfStatus",
                    ],
                    "properties": {
                        "eventSeverity": {"enum": ["CRITICAL", "MAJOR", "MINOR", "WARNING", "NORMAL"]},
                        "faultFieldsVersion": {"const": "4.0"},
                        "vfStatus": {"enum": ["Active", "Idle", "Preparing to terminate", "Ready to terminate",
                                              "Requesting Termination"]},
                        "alarmAdditionalInformation": {"additionalProperties": {"type": "string"}},
                    },
                },
            },
        }
    },
}  # fmt: skip


def _alarm(severity: str, time_s: float = START_S) -> bytes:
    return record_pb2.Alarm(
        managed_object="feeder/lv1/section/3", application="fault_alarm", specific_problem="PHASE_TO_GROUND",
        identifying_info="A", perceived_severity=f"PERCEIVED_SEVERITY_{severity}", event_time_ns=int(time_s * 1e9),
        detected_time_ns=int(time_s * 1e9) + 4_000_000, detection_ms=4.0, numbers={"i0_a": 12.5},
    ).SerializeToString()  # fmt: skip


class _System:
    def __init__(
        self, store: Path, collector_url: str = "", delays: AlarmDelays | None = None, bus: MemoryBus | None = None
    ) -> None:
        self.clock = SimClock(START_S)
        self.bus = bus or MemoryBus()
        self.metrics = Metrics("o1_test")
        self.sdl = Sdl(store, self.clock)
        self.collector = Delivery("ves", WallClock(), self.metrics, RetryPlan(first_wait_s=0.01))
        self.service = FaultService(
            self.bus, self.sdl, self.clock, self.metrics, collector=self.collector, collector_url=collector_url,
            delays=delays,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        await self.bus.start()
        await self.service.start()
        app = rest_app("alarms", self.metrics)
        app.include_router(alarm_router(self.service))
        try:
            async with (
                serve(app, "127.0.0.1", 0) as port,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
            ):
                yield http
        finally:
            await self.service.stop()
            await self.collector.stop()
            await self.bus.stop()
            self.sdl.close()

    async def publish(self, payload: bytes) -> None:
        await self.bus.publish(RIC_ALARMS, "feeder/lv1/section/3", payload, {})


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("never happened")


async def test_fault_service_alarm_is_listed_forwarded_and_cleared(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    collector = FastAPI()

    @collector.post("/eventListener/v7")
    async def listen(request: Request) -> Response:
        events.append(await request.json())
        return Response(status_code=500 if len(events) == 1 else 202)

    async with serve(collector, "127.0.0.1", 0) as port:
        system = _System(tmp_path / "o1.sqlite", f"http://127.0.0.1:{port}")
        async with system.running() as http:
            await system.service.report(_alarm("CRITICAL"))
            await system.publish(_alarm("CRITICAL", START_S + 1))
            await _until(lambda: [e.repeats for e in system.service.alarms.active()] == [1])
            rows = (await http.get("/o1/v1/alarms")).json()
            assert [(r["managedObject"], r["perceivedSeverity"], r["repeats"]) for r in rows] == [
                ("feeder/lv1/section/3", "CRITICAL", 1)
            ]
            assert rows[0]["eventTime"] == "2023-11-14T22:13:20.000000Z"
            assert rows[0]["clearedTime"] is None
            await system.publish(_alarm("CLEARED"))
            await _until(lambda: len(events) == 3)
            assert (await http.get("/o1/v1/alarms")).json() == []
            history = (await http.get("/o1/v1/alarms", params={"state": "history"})).json()
            assert [r["alarmId"] for r in history] == [rows[0]["alarmId"]]
            wrong = await http.get("/o1/v1/alarms", params={"state": "all"})
            assert (wrong.status_code, wrong.json()["field"]) == (400, "query.state")
    assert events[0] == events[1], "the event that the collector did not take is sent again"
    for event in events:
        jsonschema.validate(event, VES_FAULT)
    raised, cleared = events[1]["event"], events[2]["event"]
    assert [raised["faultFields"]["eventSeverity"], cleared["faultFields"]["eventSeverity"]] == ["CRITICAL", "NORMAL"]
    assert raised["commonEventHeader"]["eventId"] == cleared["commonEventHeader"]["eventId"]
    assert [raised["commonEventHeader"]["sequence"], cleared["commonEventHeader"]["sequence"]] == [0, 1]


async def test_fault_service_restart_keeps_active_alarms(tmp_path: Path) -> None:
    system = _System(tmp_path / "o1.sqlite")
    async with system.running():
        await system.publish(_alarm("MAJOR"))
        await _until(lambda: len(system.service.alarms.active()) == 1)
        before = system.service.alarms.active()
        await _until(lambda: bool(system.sdl.read("o1.alarms")))
    again = _System(tmp_path / "o1.sqlite")
    async with again.running():
        assert again.service.alarms.active() == before
        await again.publish(_alarm("CLEARED"))
        await _until(lambda: not again.sdl.read("o1.alarms"))
        assert again.service.alarms.active() == []


async def test_fault_service_bad_record_is_counted_and_the_next_is_taken(tmp_path: Path) -> None:
    system = _System(tmp_path / "o1.sqlite")
    async with system.running():
        await system.publish(b"\xff\xff")
        await system.publish(record_pb2.Alarm(managed_object="x").SerializeToString())
        await system.publish(_alarm("MINOR"))
        await _until(lambda: len(system.service.alarms.active()) == 1)
        counted = [system.metrics.refused.labels("o1_test", c)._value.get() for c in ("BUS-MALFORMED", "BUS-RANGE")]
        assert counted == [1, 1]
        with pytest.raises(TwinRicError, match="BUS-RANGE alarm"):
            await system.service.report(b"")


async def test_fault_service_delays_run_on_the_injected_clock(tmp_path: Path) -> None:
    delays = AlarmDelays(raise_delay_s=10, clear_delay_s=20)
    system = _System(tmp_path / "o1.sqlite", delays=delays)
    async with system.running():
        await system.publish(_alarm("MINOR"))
        await _until(lambda: system.service.alarms.next_due_ns() is not None)
        await system.clock.advance_to(START_S + 9)
        assert system.service.alarms.active() == []
        await asyncio.sleep(0.02)
        await system.clock.advance_to(START_S + 11)
        await _until(lambda: len(system.service.alarms.active()) == 1)
        await system.publish(_alarm("CLEARED"))
        await _until(lambda: system.service.alarms.next_due_ns() is not None)
        await asyncio.sleep(0.02)
        assert len(system.service.alarms.active()) == 1
        await system.clock.advance_to(START_S + 40)
        await _until(lambda: system.service.alarms.active() == [])


def _changes(system: _System) -> list[tuple[str, str]]:
    """(event kind, specific problem) of all that the collector is told."""
    told: list[tuple[str, str]] = []
    post = system.collector.post

    def record(key: str, url: str, body: Any) -> None:
        told.append((body["event"]["faultFields"]["eventSeverity"], body["event"]["faultFields"]["specificProblem"]))
        post(key, url, body)

    system.collector.post = record  # type: ignore[method-assign]
    return told


async def test_fault_service_takes_what_was_raised_while_it_was_down_once(tmp_path: Path) -> None:
    bus = MemoryBus()
    system = _System(tmp_path / "o1.sqlite", bus=bus)
    async with system.running():
        await system.publish(_alarm("MAJOR"))
        await _until(lambda: bool(system.sdl.read("o1.position")))
    await bus.start()
    await bus.publish(RIC_ALARMS, "x", _alarm("CLEARED", START_S + 1), {})
    await bus.publish(RIC_ALARMS, "x", _alarm("CRITICAL", START_S + 2), {})
    again = _System(tmp_path / "o1.sqlite", "http://127.0.0.1:9", bus=bus)
    told = _changes(again)
    async with again.running():
        await _until(lambda: [e.alarm.severity for e in again.service.alarms.active()] == ["CRITICAL"])
        assert [severity for severity, _ in told] == ["NORMAL", "CRITICAL"]
        await asyncio.sleep(0.05)
        assert len(told) == 2


async def test_fault_service_report_that_is_repeated_counts_once_also_after_a_restart(tmp_path: Path) -> None:
    """A DU repeats its newest reports after every reconnect, and when the RIC was killed it may not know of any."""
    bus = MemoryBus()
    reports = [_alarm("MAJOR"), _alarm("CLEARED", START_S + 1), _alarm("MAJOR", START_S + 2)]
    for life in range(3):
        system = _System(tmp_path / "o1.sqlite", "http://127.0.0.1:9", bus=bus)
        told = _changes(system)
        async with system.running():
            for report in (*reports, *reports):
                await system.service.report(report)
            await _until(lambda: len(system.service.alarms.active()) == 1)  # noqa: B023
            await asyncio.sleep(0.05)
            assert [severity for severity, _ in told] == (["MAJOR", "NORMAL", "MAJOR"] if life == 0 else [])
            assert system.service.alarms.active()[0].repeats == 0
    assert len(bus._retained[RIC_ALARMS]) == len(reports), "nor is anything published twice"


async def test_fault_service_bus_away_alarm_is_listed_at_once_and_published_when_it_is_back(tmp_path: Path) -> None:
    system = _System(tmp_path / "o1.sqlite")
    async with system.running():
        publish, away = system.bus.publish, True

        async def fail(topic: str, key: str, value: bytes, headers: Any) -> None:
            if away:
                raise TwinRicError("BUS-UNREACHABLE", "bus", "memory://", "a bus")
            await publish(topic, key, value, headers)

        system.bus.publish = fail  # type: ignore[method-assign]
        with pytest.raises(TwinRicError, match="BUS-UNREACHABLE"):
            await system.service.report(_alarm("MAJOR"))
        assert len(system.service.alarms.active()) == 1
        away = False
        await _until(lambda: len(system.bus._retained[RIC_ALARMS]) == 1)
        await _until(lambda: bool(system.sdl.read("o1.position")))
        assert [e.repeats for e in system.service.alarms.active()] == [0]


async def test_fault_service_full_disk_delays_the_store_and_loses_nothing(tmp_path: Path) -> None:
    system = _System(tmp_path / "o1.sqlite")
    async with system.running():
        pages = system.sdl._db.execute("PRAGMA page_count").fetchone()[0]
        system.sdl._db.execute(f"PRAGMA max_page_count = {pages}")
        refused = system.metrics.refused.labels("o1_test", "SDL-FAILED")._value
        number = 0
        while not refused.get():
            number += 1
            payload = record_pb2.Alarm.FromString(_alarm("MAJOR", START_S + number))
            payload.managed_object = f"feeder/lv{number}"
            await system.publish(payload.SerializeToString())
            await asyncio.sleep(0.005)
        system.sdl._db.execute("PRAGMA max_page_count = 1000000")
        await system.publish(_alarm("MINOR"))
        await _until(lambda: len(system.sdl.read("o1.alarms")) == number + 1)
        assert len(system.service.alarms.active()) == number + 1


async def test_fault_service_killed_while_an_alarm_waits_for_its_delay_takes_it_again(tmp_path: Path) -> None:
    bus = MemoryBus()
    system = _System(tmp_path / "o1.sqlite", delays=AlarmDelays(raise_delay_s=10), bus=bus)
    async with system.running():
        await system.publish(_alarm("MINOR"))
        await _until(lambda: system.service.alarms.next_due_ns() is not None)
    again = _System(tmp_path / "o1.sqlite", bus=bus)
    async with again.running():
        await _until(lambda: len(again.service.alarms.active()) == 1)
