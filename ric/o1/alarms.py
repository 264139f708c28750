"""Alarms: which are active, what became of the others, and which are worth telling. Pure; time is an argument.

Identity is (managed object, application, specific problem, identifying info). A condition becomes active after it held
for `raise_delay_s` and ends after it stayed away for `clear_delay_s`; repetitions in between are counted, not told.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from google.protobuf.message import DecodeError
from pydantic import Field

from ric.config import FrozenModel
from ric.errors import Fault, TwinRicError
from ric.pb.twinric.bus.v1 import record_pb2

__all__ = ["Alarm", "AlarmChange", "AlarmDelays", "AlarmEntry", "AlarmKey", "AlarmList", "Severity", "decode_alarm"]

Severity = Literal["CRITICAL", "MAJOR", "MINOR", "WARNING", "CLEARED"]
MAX_ACTIVE = 10_000
MAX_TEXT = 256
MAX_FIELDS = 64
NS = 1_000_000_000
MAX_TIME_NS = 2**63

_SEVERITIES: dict[int, Severity] = {
    record_pb2.PERCEIVED_SEVERITY_CRITICAL: "CRITICAL",
    record_pb2.PERCEIVED_SEVERITY_MAJOR: "MAJOR",
    record_pb2.PERCEIVED_SEVERITY_MINOR: "MINOR",
    record_pb2.PERCEIVED_SEVERITY_WARNING: "WARNING",
    record_pb2.PERCEIVED_SEVERITY_CLEARED: "CLEARED",
}


_TIMES = {
    "event_time_ns": "eventTime",
    "detected_time_ns": "detectedTime",
    "raised_ns": "raisedTime",
    "changed_ns": "changedTime",
    "cleared_ns": "clearedTime",
}


class AlarmDelays(FrozenModel):
    """How long a condition must hold before it is told; acts on the next alarm."""

    raise_delay_s: float = Field(default=0.0, ge=0, le=3_600)
    """A condition that ends sooner [s] is never raised. Critical alarms are raised at once."""
    clear_delay_s: float = Field(default=0.0, ge=0, le=3_600)
    """A condition that comes back sooner [s] is not cleared: no flapping."""


class AlarmKey(NamedTuple):
    """What makes two alarms the same."""

    managed_object: str
    application: str
    specific_problem: str
    identifying_info: str

    @property
    def alarm_id(self) -> str:
        """The same key gives the same id, in every process."""
        return hashlib.blake2b("\x1f".join(self).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Alarm:
    """An alarm as its application stated it."""

    key: AlarmKey
    severity: Severity
    event_time_ns: int
    detected_time_ns: int
    detection_ms: float = 0.0
    compute_ms: float = 0.0
    numbers: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""


@dataclass(frozen=True)
class AlarmEntry:
    """One alarm from raise to clear; `sequence` counts its changes from 0, `repeats` what was suppressed."""

    alarm: Alarm
    raised_ns: int
    changed_ns: int
    cleared_ns: int = 0
    sequence: int = 0
    repeats: int = 0

    def body(self) -> dict[str, Any]:
        """The entry as JSON values; times in nanoseconds since the epoch."""
        alarm = self.alarm
        return {
            "alarm_id": alarm.key.alarm_id, **alarm.key._asdict(), "perceived_severity": alarm.severity,
            "event_time_ns": alarm.event_time_ns, "detected_time_ns": alarm.detected_time_ns,
            "raised_ns": self.raised_ns, "changed_ns": self.changed_ns, "cleared_ns": self.cleared_ns or None,
            "sequence": self.sequence, "repeats": self.repeats, "detection_ms": alarm.detection_ms,
            "compute_ms": alarm.compute_ms, "numbers": dict(alarm.numbers), "details": dict(alarm.details),
            "trace_id": alarm.trace_id,
        }  # fmt: skip

    def view(self) -> dict[str, Any]:
        """The entry as REST shows it: names in camelCase, times in RFC 3339."""
        body = self.body()
        times = {name: body.pop(name) for name in _TIMES}
        view = {_camel(name): value for name, value in body.items()}
        return view | {_TIMES[name]: _rfc3339(time_ns) if time_ns else None for name, time_ns in times.items()}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> AlarmEntry:
        """The inverse of :meth:`body`."""
        alarm = Alarm(
            AlarmKey(*(body[name] for name in AlarmKey._fields)), body["perceived_severity"], body["event_time_ns"],
            body["detected_time_ns"], body["detection_ms"], body["compute_ms"], body["numbers"], body["details"],
            body["trace_id"],
        )  # fmt: skip
        times = (body["raised_ns"], body["changed_ns"], body["cleared_ns"] or 0)
        return cls(alarm, *times, sequence=body["sequence"], repeats=body["repeats"])


@dataclass(frozen=True)
class AlarmChange:
    """What is told to others: an alarm was raised, changed its severity, or was cleared."""

    kind: Literal["raised", "changed", "cleared"]
    entry: AlarmEntry


def decode_alarm(payload: bytes) -> Alarm:
    """The alarm in a `twinric.bus.v1.Alarm`. Raises TwinRicError (BUS-MALFORMED, BUS-RANGE) with every fault."""
    message = record_pb2.Alarm()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise TwinRicError("BUS-MALFORMED", "alarm", payload[:16], "twinric.bus.v1.Alarm") from error
    key = AlarmKey(message.managed_object, message.application, message.specific_problem, message.identifying_info)
    faults = [Fault("BUS-RANGE", f"alarm.{name}", "(empty)", "at least one character")
              for name in AlarmKey._fields[:3] if not getattr(key, name)]  # fmt: skip
    faults += [Fault("BUS-RANGE", f"alarm.{name}", f"{len(text)} characters", f"at most {MAX_TEXT}")
               for name, text in key._asdict().items() if len(text) > MAX_TEXT]  # fmt: skip
    severity = _SEVERITIES.get(message.perceived_severity)
    if severity is None:
        known = "CRITICAL, MAJOR, MINOR, WARNING or CLEARED"
        faults.append(Fault("BUS-RANGE", "alarm.perceived_severity", message.perceived_severity, known))
    numbers = {"detection_ms": message.detection_ms, "compute_ms": message.compute_ms, **message.numbers}
    faults += [Fault("BUS-RANGE", f"alarm.{name}", value, "a finite number")
               for name, value in numbers.items() if not math.isfinite(value)]  # fmt: skip
    if len(message.numbers) > MAX_FIELDS or len(message.details) > MAX_FIELDS:
        count = max(len(message.numbers), len(message.details))
        faults.append(Fault("BUS-RANGE", "alarm.numbers or details", count, f"at most {MAX_FIELDS} each"))
    for name in ("event_time_ns", "detected_time_ns"):
        if not 0 <= getattr(message, name) < MAX_TIME_NS:
            faults.append(Fault("BUS-RANGE", f"alarm.{name}", getattr(message, name), f"0..{MAX_TIME_NS} ns"))
    if faults or severity is None:
        raise TwinRicError.of(faults)
    return Alarm(
        key, severity, message.event_time_ns, message.detected_time_ns, message.detection_ms, message.compute_ms,
        dict(message.numbers), dict(message.details), message.trace_id,
    )  # fmt: skip


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _rfc3339(time_ns: int) -> str:
    whole_s, rest_ns = divmod(time_ns, NS)
    return f"{datetime.fromtimestamp(whole_s, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000:06d}Z"


class AlarmList:
    """Active alarms and the newest `history` cleared ones."""

    def __init__(self, delays: AlarmDelays | None = None, *, history: int = 1_000) -> None:
        self._delays = delays or AlarmDelays()
        self._active: dict[AlarmKey, AlarmEntry] = {}
        self._history: deque[AlarmEntry] = deque(maxlen=history)
        self._raising: dict[AlarmKey, tuple[int, Alarm]] = {}
        self._clearing: dict[AlarmKey, tuple[int, Alarm]] = {}

    def active(self) -> list[AlarmEntry]:
        """Active alarms, oldest first."""
        return sorted(self._active.values(), key=lambda entry: entry.raised_ns)

    def history(self) -> list[AlarmEntry]:
        """Cleared alarms, newest first."""
        return list(reversed(self._history))

    def restore(self, entries: list[AlarmEntry]) -> None:
        """Take over active alarms from before a restart."""
        self._active.update({entry.alarm.key: entry for entry in entries})

    def take(self, alarm: Alarm, now_ns: int) -> list[AlarmChange]:
        """What `alarm` changes now. Raises TwinRicError (LIMIT-SIZE) when too many alarms are active."""
        changes = self.due(now_ns)
        if alarm.severity == "CLEARED":
            return changes + self._take_clear(alarm, now_ns)
        self._clearing.pop(alarm.key, None)
        entry = self._active.get(alarm.key)
        if entry is None:
            return changes + self._take_new(alarm, now_ns)
        if entry.alarm.severity == alarm.severity:
            self._active[alarm.key] = replace(entry, repeats=entry.repeats + 1)
            return changes
        changed = replace(entry, alarm=alarm, changed_ns=now_ns, sequence=entry.sequence + 1)
        self._active[alarm.key] = changed
        return [*changes, AlarmChange("changed", changed)]

    def due(self, now_ns: int) -> list[AlarmChange]:
        """What delays that have run out by `now_ns` change."""
        changes = []
        for key, (due_ns, alarm) in sorted(self._raising.items(), key=lambda item: item[1][0]):
            if due_ns <= now_ns:
                del self._raising[key]
                changes.append(self._raise(alarm, due_ns))
        for key, (due_ns, alarm) in sorted(self._clearing.items(), key=lambda item: item[1][0]):
            if due_ns <= now_ns:
                del self._clearing[key]
                changes.append(self._clear(alarm, due_ns))
        return changes

    def next_due_ns(self) -> int | None:
        """When :meth:`due` has something to say next, if nothing else happens."""
        waiting = [due_ns for due_ns, _ in (*self._raising.values(), *self._clearing.values())]
        return min(waiting, default=None)

    def _take_new(self, alarm: Alarm, now_ns: int) -> list[AlarmChange]:
        delay_ns = round(self._delays.raise_delay_s * NS)
        if len(self._active) + len(self._raising) >= MAX_ACTIVE and alarm.key not in self._raising:
            raise TwinRicError("LIMIT-SIZE", "alarms", len(self._active), f"at most {MAX_ACTIVE} active alarms")
        if delay_ns == 0 or alarm.severity == "CRITICAL":
            self._raising.pop(alarm.key, None)
            return [self._raise(alarm, now_ns)]
        due_ns = self._raising.get(alarm.key, (now_ns + delay_ns, alarm))[0]
        self._raising[alarm.key] = (due_ns, alarm)
        return []

    def _take_clear(self, alarm: Alarm, now_ns: int) -> list[AlarmChange]:
        self._raising.pop(alarm.key, None)
        if alarm.key not in self._active:
            return []
        delay_ns = round(self._delays.clear_delay_s * NS)
        if delay_ns == 0:
            return [self._clear(alarm, now_ns)]
        self._clearing.setdefault(alarm.key, (now_ns + delay_ns, alarm))
        return []

    def _raise(self, alarm: Alarm, now_ns: int) -> AlarmChange:
        entry = AlarmEntry(alarm, now_ns, now_ns)
        self._active[alarm.key] = entry
        return AlarmChange("raised", entry)

    def _clear(self, alarm: Alarm, now_ns: int) -> AlarmChange:
        entry = self._active.pop(alarm.key)
        cleared = replace(entry, changed_ns=now_ns, cleared_ns=now_ns, sequence=entry.sequence + 1)
        self._history.append(cleared)
        return AlarmChange("cleared", cleared)
