"""The VES mapping; the service around it is tested in tests/component/o1."""

from __future__ import annotations

import pytest

from ric.o1.alarms import Alarm, AlarmChange, AlarmEntry, AlarmKey
from ric.o1.fault_service import ves_event, ves_url

ALARM = Alarm(AlarmKey("feeder/1", "fault_alarm", "ARCING", "B"), "MAJOR", 1_500, 2_500, 4.0, 0.5, {"i_a": 2.5})


def test_ves_event_of_a_raise_and_its_clear_share_an_id() -> None:
    raised = ves_event(AlarmChange("raised", AlarmEntry(ALARM, 5_000_000, 5_000_000)), "ric")["event"]
    cleared = ves_event(AlarmChange("cleared", AlarmEntry(ALARM, 5_000_000, 9_000_000, 9_000_000, 3)), "ric")["event"]
    head, fault = raised["commonEventHeader"], raised["faultFields"]
    assert head["eventId"] == cleared["commonEventHeader"]["eventId"]
    assert (head["startEpochMicrosec"], head["lastEpochMicrosec"], head["sequence"]) == (5_000, 5_000, 0)
    assert (head["sourceName"], head["priority"], head["domain"]) == ("feeder/1", "High", "fault")
    assert fault["alarmAdditionalInformation"] == {
        "i_a": "2.5", "identifyingInfo": "B", "application": "fault_alarm", "detectionMs": "4",
    }  # fmt: skip
    assert (fault["eventSeverity"], cleared["faultFields"]["eventSeverity"]) == ("MAJOR", "NORMAL")
    assert cleared["commonEventHeader"]["lastEpochMicrosec"] == 9_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://ves:8080", "http://ves:8080/eventListener/v7"),
        ("http://ves:8080/", "http://ves:8080/eventListener/v7"),
        ("http://ves:8080/my/listener", "http://ves:8080/my/listener"),
    ],
)
def test_ves_url_gets_the_standard_path_where_it_has_none(given: str, expected: str) -> None:
    assert ves_url(given) == expected
