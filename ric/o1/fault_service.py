"""Fault supervision: alarms from the bus and from dApps into one list, one REST view and VES 7.2.1 fault events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query

from ric.bus.bus import RIC_ALARMS, Bus, BusMessage
from ric.bus.record import cloudevents_headers
from ric.clock import Clock, to_ns, to_s
from ric.delivery import Delivery
from ric.errors import TwinRicError
from ric.o1.alarms import Alarm, AlarmChange, AlarmDelays, AlarmEntry, AlarmList, decode_alarm
from ric.sdl import Change, Sdl
from ric.security import TokenVerifier
from ric.servers import require_scope
from ric.telemetry import Metrics, logger

__all__ = ["FaultService", "alarm_router", "ves_event", "ves_url"]

NAMESPACE = "o1.alarms"
READ_SCOPE = "o1:read"
VES_PATH = "/eventListener/v7"
_PRIORITIES = {"CRITICAL": "High", "MAJOR": "High", "MINOR": "Medium", "WARNING": "Low"}


def ves_url(url: str) -> str:
    """The collector's event listener: `url` itself, with the standard path where it has none."""
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + VES_PATH


def ves_event(change: AlarmChange, reporting_entity: str) -> dict[str, Any]:
    """The VES 7.2.1 fault event (faultFields 4.0) for one change of one alarm.

    One alarm keeps its eventId from raise to clear, and `sequence` orders its events; NORMAL means cleared.
    """
    entry, alarm = change.entry, change.entry.alarm
    severity = "NORMAL" if change.kind == "cleared" else alarm.severity
    more = {name: f"{value:g}" for name, value in alarm.numbers.items()} | dict(alarm.details)
    more |= {"identifyingInfo": alarm.key.identifying_info, "application": alarm.key.application}
    more |= {"detectionMs": f"{alarm.detection_ms:g}", "traceId": alarm.trace_id}
    header = {
        "domain": "fault",
        "eventId": f"fault-{alarm.key.alarm_id}-{entry.raised_ns}",
        "eventName": f"Fault_TwinRIC_{alarm.key.specific_problem}",
        "eventType": alarm.key.application,
        "lastEpochMicrosec": entry.changed_ns // 1_000,
        "startEpochMicrosec": entry.raised_ns // 1_000,
        "priority": _PRIORITIES.get(alarm.severity, "Normal"),
        "reportingEntityName": reporting_entity,
        "sourceName": alarm.key.managed_object,
        "sequence": entry.sequence,
        "timeZoneOffset": "UTC+00:00",
        "version": "4.1",
        "vesEventListenerVersion": "7.2.1",
    }
    fields = {
        "faultFieldsVersion": "4.0",
        "alarmCondition": alarm.key.specific_problem,
        "eventSeverity": severity,
        "eventSourceType": "other",
        "specificProblem": alarm.key.specific_problem,
        "vfStatus": "Active",
        "alarmAdditionalInformation": {name: text for name, text in more.items() if text},
    }
    return {"event": {"commonEventHeader": header, "faultFields": fields}}


class FaultService:
    """Follows `ric.alarms`, keeps the list over restarts, forwards changes to the VES collector where there is one."""

    def __init__(
        self, bus: Bus, sdl: Sdl, clock: Clock, metrics: Metrics, *, collector: Delivery, collector_url: str = "",
        delays: AlarmDelays | None = None, reporting_entity: str = "twinric",
    ) -> None:  # fmt: skip
        self._bus = bus
        self._sdl = sdl
        self._clock = clock
        self._metrics = metrics
        self._collector = collector
        self._collector_url = ves_url(collector_url) if collector_url else ""
        self._reporting_entity = reporting_entity
        self._log = logger("fault_service")
        self._tasks: list[asyncio.Task[None]] = []
        self._delayed = asyncio.Event()
        self.alarms = AlarmList(delays)

    async def start(self) -> None:
        """Restore the active list and follow the bus from here on. Raises TwinRicError (SDL-FAILED)."""
        rows = self._sdl.read(NAMESPACE).values()
        self.alarms.restore([AlarmEntry.of(json.loads(text)) for text in rows])
        messages = self._bus.follow([RIC_ALARMS])
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(messages)), loop.create_task(self._wait_for_delays())]

    async def stop(self) -> None:
        """Stop following; the list stays readable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def report(self, payload: bytes) -> None:
        """Publish an alarm that came by another way than the bus, such as a dApp report (serialised Alarm).

        With the bus away it still enters the list. Raises TwinRicError: BUS-MALFORMED, BUS-RANGE, BUS-UNREACHABLE.
        """
        alarm = decode_alarm(payload)
        headers = cloudevents_headers(
            f"/twinric/{alarm.key.application}", "twinric.alarm.v1", alarm.detected_time_ns, alarm.trace_id,
            identifier=f"{alarm.key.alarm_id}-{alarm.severity}-{alarm.detected_time_ns}",
        )  # fmt: skip
        try:
            await self._bus.publish(RIC_ALARMS, alarm.key.managed_object, payload, headers)
        except TwinRicError:
            await self._take(alarm)
            raise

    async def _follow(self, messages: AsyncIterator[BusMessage]) -> None:
        async for message in messages:
            self._metrics.count_message("o1", "in")
            try:
                await self._take(decode_alarm(message.value))
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.warning("alarm refused", key=message.key, fault=str(error))

    async def _take(self, alarm: Alarm) -> None:
        changes = self.alarms.take(alarm, to_ns(self._clock.now_s()))
        if self.alarms.next_due_ns() is not None:
            self._delayed.set()
        await self._tell(changes)

    async def _wait_for_delays(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._delayed.clear()
            waits = [loop.create_task(self._delayed.wait())]  # an alarm with a sooner delay may come
            due_ns = self.alarms.next_due_ns()
            if due_ns is not None:
                waits.append(loop.create_task(self._sleep_until(due_ns)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            try:
                await self._tell(self.alarms.due(to_ns(self._clock.now_s())))
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.error("alarms not kept", fault=str(error))

    async def _sleep_until(self, time_ns: int) -> Literal[True]:
        # One microsecond more: seconds as float may lie just before the instant.
        await self._clock.sleep_until(to_s(time_ns) + 1e-6)
        return True

    async def _tell(self, changes: Sequence[AlarmChange]) -> None:
        for change in changes:
            key = change.entry.alarm.key
            self._log.info(f"alarm {change.kind}", **key._asdict(), severity=change.entry.alarm.severity)
            if self._collector_url:
                self._collector.post("ves", self._collector_url, ves_event(change, self._reporting_entity))
        kept = [
            Change(
                NAMESPACE, change.entry.alarm.key.alarm_id,
                None if change.kind == "cleared" else json.dumps(change.entry.body()),
            )
            for change in changes
        ]  # fmt: skip
        if kept:
            await asyncio.to_thread(self._sdl.commit, kept)


def alarm_router(service: FaultService, verifier: TokenVerifier | None = None) -> APIRouter:
    """`GET /o1/v1/alarms?state=active|history`: active oldest first, history newest first."""
    router = APIRouter(prefix="/o1/v1", dependencies=[Depends(require_scope(verifier, READ_SCOPE))])

    @router.get("/alarms")
    async def list_alarms(
        state: Literal["active", "history"] = "active", limit: int = Query(default=1_000, ge=1, le=10_000)
    ) -> list[dict[str, Any]]:
        """Alarms with their times, severities, latencies and details."""
        entries = service.alarms.active() if state == "active" else service.alarms.history()
        return [entry.view() for entry in entries[:limit]]

    return router
