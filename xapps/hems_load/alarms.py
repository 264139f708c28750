"""Shell: alarms of the HEMS on `ric.alarms`."""

from __future__ import annotations

from collections.abc import Mapping

from ric.bus.bus import RIC_ALARMS
from ric.bus.record import ALARM_EVENT_TYPE, cloudevents_headers
from ric.links import Links
from ric.pb.twinric.bus.v1 import record_pb2
from ric.telemetry import trace_id

__all__ = ["APP", "StandingAlarm", "publish_alarm"]

APP = "hems_load"


async def publish_alarm(
    links: Links, managed_object: str, problem: str, *, identifying: str, raised: bool, onset_ns: int, now_ns: int,
    numbers: Mapping[str, float], details: Mapping[str, str],
) -> None:  # fmt: skip
    """Raise a minor alarm, or clear it. Raises TwinRicError BUS-UNREACHABLE."""
    severity = record_pb2.PERCEIVED_SEVERITY_MINOR if raised else record_pb2.PERCEIVED_SEVERITY_CLEARED
    alarm = record_pb2.Alarm(
        managed_object=managed_object, application=APP, specific_problem=problem, identifying_info=identifying,
        perceived_severity=severity, event_time_ns=onset_ns, detected_time_ns=now_ns, numbers=numbers,
        details=details if raised else {}, trace_id=trace_id(),
    )  # fmt: skip
    headers = cloudevents_headers(
        f"/twinric/{APP}", ALARM_EVENT_TYPE, now_ns, trace_id(), identifier=f"{identifying}-{now_ns}-{severity}"
    )
    await links.bus.publish(RIC_ALARMS, alarm.managed_object, alarm.SerializeToString(), headers)


class StandingAlarm:
    """About one thing of this app: told when it goes wrong and when it is well again.

    One that stands from an earlier life of the app is cleared too: what nobody has raised is cleared for nothing.
    """

    def __init__(self, links: Links, managed_object: str, problem: str) -> None:
        self._links, self._object, self._problem = links, managed_object, problem
        self._onset_ns: int | None = None
        """Of the alarm that was told last; 0 for its clearing."""

    async def tell(self, fault: str, now_ns: int) -> None:
        """The thing is wrong for the reason `fault`, or well where that is empty. Raises TwinRicError BUS-UNREACHABLE;
        it is told at the next call then.
        """
        if self._onset_ns is not None and bool(self._onset_ns) == bool(fault):
            return
        onset_ns = self._onset_ns or now_ns
        await publish_alarm(
            self._links, self._object, self._problem, identifying=self._object.replace("/", "-"), raised=bool(fault),
            onset_ns=onset_ns, now_ns=now_ns, numbers={}, details={"why": fault},
        )  # fmt: skip
        self._onset_ns = onset_ns if fault else 0
        if fault:
            self._links.log.warning(self._problem, why=fault)
