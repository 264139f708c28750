"""Fault supervision: alarms from the bus and from dApps into one list, one REST view and VES 7.2.1 fault events.

Delivery to us is at least once, its effect is once: a report is known by what it says and the work that made it, what
was taken is remembered over restarts, and the bus is read on from where the last life stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query

from ric.bus.bus import RIC_ALARMS, Bus, BusMessage
from ric.bus.record import cloudevents_headers
from ric.clock import Clock, sleep_for, to_ns, to_s
from ric.delivery import Delivery
from ric.errors import TwinRicError
from ric.o1.alarms import Alarm, AlarmChange, AlarmDelays, AlarmEntry, AlarmList, decode_alarm
from ric.sdl import Change, Sdl
from ric.security import TokenVerifier
from ric.servers import require_scope
from ric.telemetry import Metrics, logger

__all__ = ["FaultService", "alarm_router", "ves_event", "ves_url"]

NAMESPACE, SEEN, POSITION = "o1.alarms", "o1.seen", "o1.position"
MAX_SEEN = 20_000
"""Reports that are remembered; what a DU sends again after a reconnect must be among them."""
MAX_UNPUBLISHED = 1_000
PUBLISH_AGAIN_S = 1.0
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


def identity_of(alarm: Alarm) -> str:
    """The same for every delivery of one report; another detection, or another cycle's work, is another report."""
    parts = (alarm.key.alarm_id, alarm.severity, str(alarm.detected_time_ns), alarm.trace_id)
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=12).hexdigest()


class _Seen:
    """The newest MAX_SEEN reports, in order."""

    def __init__(self, rows: Mapping[str, str]) -> None:
        self._numbers = dict(sorted(((name, int(text)) for name, text in rows.items()), key=lambda row: row[1]))
        self._next = max(self._numbers.values(), default=0) + 1

    def __contains__(self, identity: str) -> bool:
        return identity in self._numbers

    def add(self, identity: str) -> list[Change]:
        """Remember one report; what that changes in the store."""
        self._numbers[identity] = self._next
        changes = [Change(SEEN, identity, str(self._next))]
        self._next += 1
        if len(self._numbers) > MAX_SEEN:
            oldest = next(iter(self._numbers))
            del self._numbers[oldest]
            changes.append(Change(SEEN, oldest, None))
        return changes


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
        self._seen = _Seen({})
        self._reported: set[str] = set()
        """Published in this life, perhaps not read back yet."""
        self._unpublished: deque[bytes] = deque(maxlen=MAX_UNPUBLISHED)
        self._unsaved: dict[tuple[str, str], Change] = {}
        """What the store has still to take: a full disk delays it, later changes do not overtake it."""
        self._unsettled: dict[tuple[str, str], Change] = {}
        """What was read while alarms wait for their delays, which no store holds: after a crash it is read again."""
        self._saving = asyncio.Lock()
        self._anchor_s = clock.now_s() - clock.elapsed_s()
        self.alarms = AlarmList(delays)

    async def start(self) -> None:
        """Restore the active list and follow the bus from where it stopped; at first, from the oldest alarm there.

        Raises TwinRicError (SDL-FAILED, BUS-UNREACHABLE).
        """
        rows = self._sdl.read(NAMESPACE).values()
        self.alarms.restore([AlarmEntry.of(json.loads(text)) for text in rows])
        self._seen = _Seen(self._sdl.read(SEEN))
        position = self._sdl.read(POSITION).get(RIC_ALARMS)
        if position is None:
            messages = self._bus.follow([RIC_ALARMS], from_start=True)
        else:
            messages = self._bus.resume(RIC_ALARMS, int(position))
        loop = asyncio.get_running_loop()
        work = (self._follow(messages), self._wait_for_delays(), self._publish_again())
        self._tasks = [loop.create_task(each) for each in work]

    async def stop(self) -> None:
        """Stop following; the list stays readable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def report(self, payload: bytes) -> None:
        """Publish an alarm that came by another way than the bus, such as a dApp report (serialised Alarm).

        One that was taken before is dropped: DUs repeat their newest after every reconnect. With the bus away it
        enters the list at once and is published when the bus is back. Raises TwinRicError: BUS-MALFORMED, BUS-RANGE,
        BUS-UNREACHABLE.
        """
        alarm = decode_alarm(payload)
        identity = identity_of(alarm)
        if identity in self._seen or identity in self._reported:
            self._metrics.count_message("o1", "repeated")
            return
        self._reported.add(identity)
        try:
            await self._publish(payload, alarm)
        except TwinRicError:
            self._unpublished.append(payload)
            await self._take(alarm)
            raise

    async def _publish(self, payload: bytes, alarm: Alarm) -> None:
        headers = cloudevents_headers(
            f"/twinric/{alarm.key.application}", "twinric.alarm.v1", alarm.detected_time_ns, alarm.trace_id,
            identifier=identity_of(alarm),
        )  # fmt: skip
        await self._bus.publish(RIC_ALARMS, alarm.key.managed_object, payload, headers)

    async def _publish_again(self) -> None:
        """Publish what the bus did not take, oldest first; in real time, since it waits for a peer."""
        while True:
            await asyncio.sleep(PUBLISH_AGAIN_S)
            with contextlib.suppress(TwinRicError):
                while self._unpublished:
                    await self._publish(self._unpublished[0], decode_alarm(self._unpublished[0]))
                    self._unpublished.popleft()

    async def _follow(self, messages: AsyncIterator[BusMessage]) -> None:
        async for message in messages:
            self._metrics.count_message("o1", "in")
            try:
                await self._take(decode_alarm(message.value), message.position)
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.warning("alarm refused", key=message.key, fault=str(error))

    async def _take(self, alarm: Alarm, position: int | None = None) -> None:
        """Let a report change the list, once however often it comes; `position` is how far the bus is read with it."""
        identity = identity_of(alarm)
        kept = [] if position is None else [Change(POSITION, RIC_ALARMS, str(position))]
        changes: list[AlarmChange] = []
        if identity in self._seen:
            self._metrics.count_message("o1", "repeated")
        else:
            changes = self.alarms.take(alarm, self._now_ns())
            kept += self._seen.add(identity)
        if position is not None:
            self._reported.discard(identity)
        if self.alarms.next_due_ns() is not None:
            self._delayed.set()
        await self._tell(changes, kept)

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
                await self._tell(self.alarms.due(self._now_ns()))
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.error("alarms not kept", fault=str(error))

    async def _sleep_until(self, time_ns: int) -> Literal[True]:
        # One microsecond more: seconds as float may lie just before the instant.
        await sleep_for(self._clock, to_s(time_ns - self._now_ns()) + 1e-6)
        return True

    def _now_ns(self) -> int:
        """The clock's time; while delays run, the time of their start and what has elapsed, whatever its date does."""
        if self.alarms.next_due_ns() is None:
            self._anchor_s = self._clock.now_s() - self._clock.elapsed_s()
        return to_ns(self._anchor_s + self._clock.elapsed_s())

    async def _tell(self, changes: Sequence[AlarmChange], kept: Sequence[Change] = ()) -> None:
        for change in changes:
            key = change.entry.alarm.key
            self._log.info(f"alarm {change.kind}", **key._asdict(), severity=change.entry.alarm.severity)
            if self._collector_url:
                self._collector.post("ves", self._collector_url, ves_event(change, self._reporting_entity))
        rows = [
            Change(
                NAMESPACE, change.entry.alarm.key.alarm_id,
                None if change.kind == "cleared" else json.dumps(change.entry.body()),
            )
            for change in changes
        ]  # fmt: skip
        self._unsaved |= {(row.namespace, row.key): row for row in rows}
        self._unsettled |= {(row.namespace, row.key): row for row in kept}
        if self.alarms.next_due_ns() is None:
            self._unsaved |= self._unsettled
            self._unsettled = {}
        await self._save()

    async def _save(self) -> None:
        async with self._saving:
            if saving := dict(self._unsaved):
                await asyncio.to_thread(self._sdl.commit, list(saving.values()))
                self._unsaved = {key: row for key, row in self._unsaved.items() if saving.get(key) is not row}


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
