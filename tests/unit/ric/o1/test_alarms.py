"""The alarm list by hand and by invariants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.errors import TwinRicError
from ric.o1.alarms import MAX_ACTIVE, Alarm, AlarmDelays, AlarmEntry, AlarmKey, AlarmList, decode_alarm
from ric.pb.twinric.bus.v1 import record_pb2

NS = 10**9
KEY = AlarmKey("feeder/1", "fault_alarm", "ARCING", "")
MINOR = Alarm(KEY, "MINOR", 0, 1)
CLEARED = replace(MINOR, severity="CLEARED")


def _kinds(changes: list) -> list[str]:
    return [change.kind for change in changes]


def test_alarm_list_raise_repeat_change_clear() -> None:
    alarms = AlarmList()
    assert _kinds(alarms.take(MINOR, 5)) == ["raised"]
    assert alarms.take(MINOR, 6) == []
    assert _kinds(alarms.take(replace(MINOR, severity="MAJOR"), 7)) == ["changed"]
    (entry,) = alarms.active()
    assert (entry.alarm.severity, entry.raised_ns, entry.changed_ns, entry.sequence, entry.repeats) == (
        "MAJOR",
        5,
        7,
        1,
        1,
    )
    assert _kinds(alarms.take(CLEARED, 8)) == ["cleared"]
    assert (alarms.active(), [e.cleared_ns for e in alarms.history()]) == ([], [8])
    assert alarms.take(CLEARED, 9) == [], "what is not active cannot be cleared"


def test_alarm_identity_has_four_parts() -> None:
    alarms = AlarmList()
    for field in AlarmKey._fields:
        alarms.take(replace(MINOR, key=KEY._replace(**{field: "another"})), 1)
    assert len({entry.alarm.key.alarm_id for entry in alarms.active()}) == 4


def test_alarm_id_does_not_confuse_neighbouring_parts() -> None:
    assert AlarmKey("a", "bc", "d", "").alarm_id != AlarmKey("ab", "c", "d", "").alarm_id


def test_raise_delay_swallows_what_ends_sooner() -> None:
    alarms = AlarmList(AlarmDelays(raise_delay_s=10))
    assert alarms.take(MINOR, 0) == []
    assert alarms.take(CLEARED, 5 * NS) == []
    assert (alarms.next_due_ns(), alarms.due(60 * NS)) == (None, [])
    alarms.take(MINOR, 70 * NS)
    alarms.take(MINOR, 75 * NS)
    assert alarms.next_due_ns() == 80 * NS, "a repetition does not put the raise off"
    assert alarms.due(80 * NS - 1) == []
    assert _kinds(alarms.due(80 * NS)) == ["raised"]


def test_raise_delay_does_not_hold_up_critical_alarms() -> None:
    alarms = AlarmList(AlarmDelays(raise_delay_s=10))
    assert _kinds(alarms.take(replace(MINOR, severity="CRITICAL"), 0)) == ["raised"]


def test_clear_delay_swallows_flapping() -> None:
    alarms = AlarmList(AlarmDelays(clear_delay_s=10))
    alarms.take(MINOR, 0)
    assert alarms.take(CLEARED, 1 * NS) == []
    assert alarms.take(MINOR, 5 * NS) == []
    assert (alarms.next_due_ns(), len(alarms.active())) == (None, 1)
    alarms.take(CLEARED, 20 * NS)
    assert _kinds(alarms.due(30 * NS)) == ["cleared"]


def test_alarm_list_is_bounded() -> None:
    alarms = AlarmList(history=3)
    for number in range(MAX_ACTIVE):
        alarms.take(replace(MINOR, key=KEY._replace(managed_object=f"o{number}")), number)
    with pytest.raises(TwinRicError, match="LIMIT-SIZE"):
        alarms.take(MINOR, MAX_ACTIVE)
    for number in range(5):
        alarms.take(replace(CLEARED, key=KEY._replace(managed_object=f"o{number}")), MAX_ACTIVE + number)
    assert [e.alarm.key.managed_object for e in alarms.history()] == ["o4", "o3", "o2"]


_severities = st.sampled_from(["CRITICAL", "MAJOR", "MINOR", "WARNING", "CLEARED"])
_steps = st.lists(st.tuples(st.sampled_from("ab"), _severities, st.integers(0, 30)), max_size=40)


@given(_steps, st.integers(0, 20), st.integers(0, 20))
def test_alarm_changes_of_one_key_alternate_and_match_the_list(
    steps: list[tuple[str, str, int]], raise_s: int, clear_s: int
) -> None:
    """Each key is raised, changed any number of times, cleared, raised...; sequence counts from 0 without gaps."""
    alarms = AlarmList(AlarmDelays(raise_delay_s=raise_s, clear_delay_s=clear_s))
    now_ns, told = 0, []
    for name, severity, pause_s in steps:
        now_ns += pause_s * NS
        told += alarms.take(replace(MINOR, key=KEY._replace(managed_object=name), severity=severity), now_ns)
    active = {entry.alarm.key for entry in alarms.active()}
    for name in "ab":
        key = KEY._replace(managed_object=name)
        mine = [change for change in told if change.entry.alarm.key == key]
        expected = 0
        for change in mine:
            assert (change.kind == "raised") == (change.entry.sequence == 0)
            assert change.entry.sequence == expected
            expected = 0 if change.kind == "cleared" else expected + 1
        assert (key in active) == bool(mine and mine[-1].kind != "cleared")
    assert all(entry.alarm.severity != "CLEARED" for entry in alarms.active())


def test_entry_survives_its_json_form() -> None:
    alarm = Alarm(KEY, "MAJOR", 3, 4, 1.5, 0.5, {"i_a": 2.0}, {"kind": "arc"}, "trace")
    entry = AlarmEntry(alarm, 5, 6, 0, 2, 7)
    assert AlarmEntry.of(entry.body()) == entry
    view = entry.view()
    assert (view["raisedTime"], view["clearedTime"]) == ("1970-01-01T00:00:00.000000Z", None)
    assert (view["managedObject"], view["perceivedSeverity"], view["repeats"]) == ("feeder/1", "MAJOR", 7)


def _message(**fields: object) -> bytes:
    base = {"managed_object": "o", "application": "a", "specific_problem": "p", "perceived_severity": 1}
    return record_pb2.Alarm(**{**base, **fields}).SerializeToString()


def test_decode_alarm_gives_what_was_stated() -> None:
    payload = _message(identifying_info="i", event_time_ns=7, detected_time_ns=8, detection_ms=1.0, numbers={"x": 2.0},
                       details={"y": "z"}, trace_id="t")  # fmt: skip
    expected = Alarm(AlarmKey("o", "a", "p", "i"), "CRITICAL", 7, 8, 1.0, 0.0, {"x": 2.0}, {"y": "z"}, "t")
    assert decode_alarm(payload) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"managed_object": ""}, "alarm.managed_object"),
        ({"specific_problem": "x" * 300}, "alarm.specific_problem"),
        ({"perceived_severity": 0}, "alarm.perceived_severity"),
        ({"perceived_severity": 9}, "alarm.perceived_severity"),
        ({"numbers": {"x": float("nan")}}, "alarm.x"),
        ({"detection_ms": float("inf")}, "alarm.detection_ms"),
        ({"details": {str(n): "" for n in range(65)}}, "alarm.numbers or details"),
        ({"event_time_ns": 2**63}, "alarm.event_time_ns"),
    ],
)
def test_decode_alarm_bad_field_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(TwinRicError) as refused:
        decode_alarm(_message(**fields))
    assert [(fault.code, fault.field) for fault in refused.value.faults] == [("BUS-RANGE", field)]


@given(st.binary(max_size=300))
def test_decode_alarm_any_octets_give_an_alarm_or_a_typed_error(payload: bytes) -> None:
    try:
        alarm = decode_alarm(payload)
    except TwinRicError as error:
        assert error.code in {"BUS-MALFORMED", "BUS-RANGE"}
    else:
        AlarmEntry(alarm, 1, 1).view()
