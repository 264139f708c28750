"""E2SM-KPM: round trips, bounds by name, any octets give a report or a typed error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ric.e2sm import kpm
from ric.errors import TwinRicError
from ric.pb.twinric.e2sm.v1 import kpm_pb2

TIME_NS = 1_700_000_000 * 10**9


@st.composite
def reports(draw: st.DrawFn) -> kpm.KpmReport:
    names = tuple(draw(st.lists(st.sampled_from(sorted(kpm.MEASUREMENTS)), unique=True, max_size=5)))
    items = tuple(kpm.KpmItem(f"00101-{n:x}", "1-000001", f"ue{n}") for n in range(draw(st.integers(0, 5))))
    values = draw(arrays(np.float64, (len(names), len(items)), elements=st.floats(0, 1e9)))
    return kpm.KpmReport("00101-e2000001", TIME_NS, draw(st.integers(10, 86_400_000)), names, items, values)


@given(reports())
def test_kpm_indication_round_trips(report: kpm.KpmReport) -> None:
    again = kpm.decode_indication(*kpm.encode_indication(report))
    np.testing.assert_array_equal(again.values, report.values)
    assert (again.items, again.measurement_names, again.source_time_ns) == (
        report.items, report.measurement_names, report.source_time_ns,
    )  # fmt: skip
    for row, name in enumerate(report.measurement_names):
        np.testing.assert_array_equal(again.of(name), report.values[row])


def test_kpm_absent_measurement_is_a_key_error() -> None:
    report = kpm.KpmReport("n", TIME_NS, 100, (), (), np.zeros((0, 0)))
    with pytest.raises(KeyError, match=r"DRB\.UEThpDl"):
        report.of("DRB.UEThpDl")


@given(st.integers(10, 86_400_000))
def test_kpm_trigger_round_trips(period_ms: int) -> None:
    assert kpm.decode_trigger(kpm.encode_trigger(period_ms)) == period_ms


@pytest.mark.parametrize("period_ms", [0, 9, 86_400_001])
def test_kpm_trigger_out_of_range_is_refused(period_ms: int) -> None:
    with pytest.raises(TwinRicError, match=r"E2-RANGE event_trigger\.granularity_period_ms"):
        kpm.decode_trigger(kpm.encode_trigger(period_ms))


def test_kpm_action_takes_known_names_only() -> None:
    assert kpm.decode_action(kpm.encode_action(("DRB.UEThpDl",))) == ("DRB.UEThpDl",)
    with pytest.raises(TwinRicError, match=r"E2-RANGE action_definition\.measurement_names = 'DRB\.Thp'"):
        kpm.decode_action(kpm.encode_action(("DRB.Thp",)))


@pytest.mark.parametrize(
    ("names", "values", "field"),
    [
        (["DRB.UEThpDl"], [1.0, 2.0], "values"),
        (["DRB.UEThpDl"], [float("nan")], "values"),
        (["DRB.UEThpDl"], [-1.0], "values"),
        (["DRB.UEThpDl", "DRB.UEThpDl"], [1.0, 1.0], "measurement_names"),
        (["nothing"], [1.0], "measurement_names"),
        (["DRB.UEThpDl"], [float("inf")], "values"),
    ],
)
def test_kpm_bad_indication_is_refused_by_name(names: list[str], values: list[float], field: str) -> None:
    rows = kpm_pb2.KpmItemTable(nr_cgi=[""], s_nssai=[""], ue_id=[""]).SerializeToString()
    octets = np.array(values, dtype="<f8").tobytes()
    message = kpm_pb2.KpmIndicationMessage(
        granularity_period_ms=100, measurement_names=names, item_table=rows, values=octets
    )
    with pytest.raises(TwinRicError) as refused:
        kpm.decode_indication(b"", message.SerializeToString())
    assert refused.value.faults[0].field == f"indication_message.{field}"


def test_kpm_rows_of_different_lengths_are_refused() -> None:
    rows = kpm_pb2.KpmItemTable(nr_cgi=["c"], s_nssai=[], ue_id=["u"]).SerializeToString()
    message = kpm_pb2.KpmIndicationMessage(granularity_period_ms=100, item_table=rows)
    with pytest.raises(TwinRicError, match=r"E2-RANGE indication_message\.item_table"):
        kpm.decode_indication(b"", message.SerializeToString())


def test_kpm_values_are_the_octets_of_packed_doubles() -> None:
    """A reader in another language may declare the field as a packed repeated double."""
    items = (kpm.KpmItem("c", "1-000001"),)
    _, message = kpm.encode_indication(kpm.KpmReport("n", TIME_NS, 100, ("DRB.UEThpDl",), items, np.array([[1.5]])))
    assert b"\x22\x08" + np.array([1.5], dtype="<f8").tobytes() in message  # field 4, length 8


@pytest.mark.parametrize("period_ms", [0, 9, 86_400_001])
def test_kpm_indication_of_an_impossible_period_is_refused(period_ms: int) -> None:
    message = kpm_pb2.KpmIndicationMessage(granularity_period_ms=period_ms)
    with pytest.raises(TwinRicError, match=r"E2-RANGE indication_message\.granularity_period_ms"):
        kpm.decode_indication(b"", message.SerializeToString())


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_kpm_any_octets_give_a_value_or_a_typed_error(header: bytes, payload: bytes) -> None:
    for decode in (lambda: kpm.decode_indication(header, payload), lambda: kpm.decode_trigger(payload),
                   lambda: kpm.decode_action(payload)):  # fmt: skip
        try:
            decode()
        except TwinRicError as error:
            assert error.code in {"E2-MALFORMED", "E2-RANGE"}
