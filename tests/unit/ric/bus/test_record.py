from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.bus import record, twin_state
from ric.bus.record import Ack, AckStatus, Succession, TwinState, Verdict
from ric.columns import ESTIMATED, GOOD, Table
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import TwinRecord

S = 1_000_000_000
T0 = 1_700_000_000 * S
TWIN = "slice/00101-e2000001"
COLUMNS = ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")


def table(source_time_ns: int = T0, value: float = 1.0, ids: tuple[str, ...] = ("1-000001", "1-000002")) -> Table:
    columns = {name: np.full(len(ids), value) for name in COLUMNS}
    return Table("slice_twin", ids, columns, source_time_ns)


def following(previous: TwinState | None, **changes: object) -> TwinState:
    arguments: dict[str, object] = {
        "twin_id": TWIN,
        "kind": "slice_twin",
        "table": table(T0 + (previous.revision if previous else 0) * S),
        "now_ns": T0,
        "valid_for_ms": 0,
        "producer": "slice_bandwidth/1",
        "trace_id": "ab" * 16,
    }
    return record.successor(previous, **(arguments | changes))  # type: ignore[arg-type]


def chain(length: int) -> list[TwinState]:
    states: list[TwinState] = []
    for _ in range(length):
        states.append(following(states[-1] if states else None))
    return states


def resealed(message: TwinRecord) -> bytes:
    """The record as a producer with these faults would send it: its hash is right."""
    message.state_hash = twin_state._hash_of(message)
    return message.SerializeToString(deterministic=True)


def test_encode_decode_gives_the_same_state_back() -> None:
    quality = {"delay_ms": np.array([GOOD, ESTIMATED], dtype=np.uint8)}
    state = following(chain(1)[0], table=replace(table(), quality=quality), valid_for_ms=5, expected_revision=7)
    back = record.decode(record.encode(state))
    assert replace(back, table=state.table) == state
    for name in COLUMNS:
        np.testing.assert_array_equal(back.table[name], state.table[name])
    np.testing.assert_array_equal(back.table.quality["delay_ms"], quality["delay_ms"])


@given(
    values=st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=20),
    valid_for_ms=st.integers(0, 2**32 - 1),
    expected=st.integers(0, 2**64 - 1),
)
def test_encode_decode_round_trip_keeps_numbers_to_the_bit(
    values: list[float], valid_for_ms: int, expected: int
) -> None:
    ids = tuple(f"slice-{index}" for index in range(len(values)))
    full = Table("slice_twin", ids, {name: np.array(values) for name in COLUMNS}, T0)
    state = following(None, table=full, valid_for_ms=valid_for_ms, expected_revision=expected)
    back = record.decode(record.encode(state))
    assert record.encode(back) == record.encode(state)
    assert back.table["flexe_slots"].tobytes() == np.array(values).tobytes()


@given(st.binary(max_size=200))
def test_decode_any_octets_gives_a_typed_error(value: bytes) -> None:
    with pytest.raises(TwinRicError) as caught:
        record.decode(value)
    assert caught.value.code in {"BUS-MALFORMED", "BUS-RANGE", "BUS-TAMPERED"}


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_decode_one_flipped_bit_is_never_accepted_as_another_state(position: int, bit: int) -> None:
    value = bytearray(record.encode(chain(2)[1]))
    value[position % len(value)] ^= 1 << bit
    try:
        state = record.decode(bytes(value))
    except TwinRicError:
        return
    assert record.encode(state) == record.encode(chain(2)[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("twin_id", "no slash"),
        ("twin_id", "slice/"),
        ("kind", "home_report"),
        ("revision", 0),
        ("source_time_ns", 0),
        ("ingest_time_ns", 2**63),
        ("producer", ""),
        ("trace_id", "XYZ"),
        ("previous_hash", b"x" * 16),
    ],
    ids=lambda value: str(value)[:20],
)
def test_decode_field_out_of_range_is_named(field: str, value: object) -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    setattr(message, field, value)
    with pytest.raises(TwinRicError) as caught:
        record.decode(resealed(message))
    assert caught.value.code == "BUS-RANGE"
    assert field in {fault.field for fault in caught.value.faults}


def test_decode_wrong_unit_is_an_unknown_column_with_a_suggestion() -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    column = next(column for column in message.features.columns if column.name == "offered_mbps")
    column.name = "offered_kbps"
    with pytest.raises(TwinRicError) as caught:
        record.decode(resealed(message))
    assert caught.value.code == "BUS-RANGE"
    assert "features.offered_kbps" in {fault.field for fault in caught.value.faults}
    assert "offered_mbps" in str(caught.value)


def test_decode_unknown_version_names_the_accepted_one() -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    message.features.schema_version = 9
    with pytest.raises(TwinRicError, match=r"features\.schema_version = 9: accepted 1"):
        record.decode(resealed(message))


def test_decode_value_out_of_range_names_range_and_unit() -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    message.features.columns[0].values[0] = 21
    with pytest.raises(TwinRicError, match=r"features\.flexe_slots = 21\.0: accepted 0\.\.20 slot"):
        record.decode(resealed(message))


def test_decode_reports_all_faults_together() -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    message.revision = 0
    message.producer = ""
    message.features.columns[1].values[0] = -1
    with pytest.raises(TwinRicError) as caught:
        record.decode(resealed(message))
    assert {"revision", "producer", "features.offered_mbps"} <= {fault.field for fault in caught.value.faults}


def test_decode_content_that_the_hash_does_not_cover_is_tampered() -> None:
    message = TwinRecord.FromString(record.encode(chain(1)[0]))
    message.features.columns[1].values[0] = 2.0
    with pytest.raises(TwinRicError) as caught:
        record.decode(message.SerializeToString())
    assert caught.value.code == "BUS-TAMPERED"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"valid_for_ms": -1}, "valid_for_ms"),
        ({"expected_revision": -1}, "expected_revision"),
        ({"now_ns": 0}, "now_ns"),
        ({"kind": "slice_twins"}, "kind"),
        ({"twin_id": "slice/other"}, "twin_id"),
    ],
    ids=["validity", "expected revision", "time", "kind", "another twin's predecessor"],
)
def test_successor_refuses_what_the_wire_cannot_carry(changes: dict[str, object], field: str) -> None:
    with pytest.raises(TwinRicError) as caught:
        following(chain(1)[0], **changes)
    assert (caught.value.code, caught.value.faults[0].field) == ("BUS-RANGE", field)


def test_successor_links_each_revision_to_the_one_before() -> None:
    states = chain(4)
    assert [state.revision for state in states] == [1, 2, 3, 4]
    assert states[0].previous_hash == b""
    assert [state.previous_hash for state in states[1:]] == [state.state_hash for state in states[:-1]]
    assert len({state.state_hash for state in states}) == 4


def test_check_verdicts() -> None:
    first, second, third, fourth = chain(4)
    other_second = following(first, table=table(value=3.0))
    other_third = following(other_second)
    assert record.check(None, first, T0) is Verdict.APPLY
    assert record.check(None, third, T0) is Verdict.APPLY
    assert record.check(first, second, T0) is Verdict.APPLY
    assert record.check(second, second, T0) is Verdict.DUPLICATE
    assert record.check(third, second, T0) is Verdict.OLD
    assert record.check(second, fourth, T0) is Verdict.GAP
    assert record.check(second, other_second, T0) is Verdict.TAMPERED
    assert record.check(second, other_third, T0) is Verdict.TAMPERED


def test_check_first_revision_again_is_a_new_beginning_only_when_newer() -> None:
    states = chain(3)
    assert record.check(states[2], following(None, table=table(T0 + 60 * S)), T0) is Verdict.GAP
    assert record.check(states[2], states[0], T0) is Verdict.OLD


def test_check_expired_only_after_the_validity() -> None:
    first = following(None, valid_for_ms=1_000)
    assert record.check(None, first, T0 + S) is Verdict.APPLY
    assert record.check(None, first, T0 + S + 1) is Verdict.EXPIRED
    assert record.check(None, following(None), T0 + 10**18) is Verdict.APPLY


def test_succession_expired_record_keeps_the_chain() -> None:
    succession = Succession()
    first = following(None)
    second = following(first, valid_for_ms=1)
    third = following(second)
    late = T0 + 3600 * S
    assert [succession.admit(state, late) for state in (first, second, third)] == [
        Verdict.APPLY,
        Verdict.EXPIRED,
        Verdict.APPLY,
    ]


def test_succession_single_forgery_never_moves_the_chain() -> None:
    succession = Succession()
    first, second, third = chain(3)
    forged = following(first, table=table(value=9.0))
    verdicts = [succession.admit(state, T0) for state in (first, second, forged, third)]
    assert verdicts == [Verdict.APPLY, Verdict.APPLY, Verdict.TAMPERED, Verdict.APPLY]
    assert succession.newest(TWIN) == third


def test_succession_fork_that_goes_on_is_followed_again_as_a_gap() -> None:
    succession = Succession()
    first, second, third = chain(3)
    fork = [following(second, table=table(value=9.0))]
    for _ in range(3):
        fork.append(following(fork[-1]))
    for state in (first, second, third):
        succession.admit(state, T0)
    verdicts = [succession.admit(state, T0) for state in fork]
    assert verdicts == [Verdict.TAMPERED, Verdict.TAMPERED, Verdict.GAP, Verdict.APPLY]
    assert succession.newest(TWIN) == fork[-1]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_succession_any_order_and_duplicates_never_go_back(order: list[int], repeats: list[int]) -> None:
    states = chain(6)
    succession = Succession()
    applied = [
        states[index].revision
        for index in [*order, *repeats]
        if succession.admit(states[index], T0) in (Verdict.APPLY, Verdict.GAP)
    ]
    assert applied == sorted(set(applied))
    assert applied[-1] == 6


@pytest.mark.parametrize("status", list(AckStatus))
def test_ack_round_trip(status: AckStatus) -> None:
    ack = Ack(TWIN, 4, status, "set-points older than the outlook", T0)
    assert record.decode_ack(record.encode_ack(ack)) == ack


@given(st.binary(max_size=60))
def test_decode_ack_any_octets_gives_a_typed_error(value: bytes) -> None:
    with pytest.raises(TwinRicError) as caught:
        record.decode_ack(value)
    assert caught.value.code in {"BUS-MALFORMED", "BUS-RANGE"}


@given(time_ns=st.integers(0, 4_000_000_000 * S), trace=st.sampled_from(["", "ab" * 16]))
def test_cloudevents_headers_round_trip(time_ns: int, trace: str) -> None:
    headers = record.cloudevents_headers("/twinric/hems_load", record.TWIN_EVENT_TYPE, time_ns, trace)
    event = record.decode_headers(headers)
    assert (event.source, event.event_type, event.time_ns, event.trace_id) == (
        "/twinric/hems_load",
        record.TWIN_EVENT_TYPE,
        time_ns,
        trace,
    )
    assert event.identifier == headers["ce_id"]


def test_cloudevents_headers_time_is_rfc3339_in_utc() -> None:
    headers = record.cloudevents_headers("/x", "t", T0 + 1, "")
    assert headers["ce_time"].endswith(".000000001Z")
    assert datetime.fromisoformat(headers["ce_time"]).timestamp() == T0 / S
    assert headers["content-type"] == "application/protobuf"


def test_cloudevents_headers_identifier_tells_records_of_one_instant_apart() -> None:
    first = record.cloudevents_headers("/x", "t", T0, "", identifier="a")
    second = record.cloudevents_headers("/x", "t", T0, "", identifier="b")
    assert first["ce_id"] != second["ce_id"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", "0.3"),
        ("ce_id", ""),
        ("ce_time", "yesterday"),
        ("ce_time", "2026-13-01T00:00:00Z"),
        ("content-type", "application/json"),
        ("ce_traceparent", "00-xyz"),
    ],
)
def test_decode_headers_names_the_header(name: str, value: str) -> None:
    headers = record.cloudevents_headers("/x", "t", T0, "ab" * 16) | {name: value}
    with pytest.raises(TwinRicError) as caught:
        record.decode_headers(headers)
    assert caught.value.code == "BUS-MALFORMED"
    assert [fault.field for fault in caught.value.faults] == [f"headers.{name}"]


def test_decode_headers_names_every_absent_one() -> None:
    with pytest.raises(TwinRicError) as caught:
        record.decode_headers({})
    assert len(caught.value.faults) == 6
