"""dApp reports over E2: round trip, and any octets give a report or a typed error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2sm import dapp
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm


@given(st.text(max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_dapp_report_round_trips(node: str, time_ns: int, identifier: int, sequence: int) -> None:
    alarm = Alarm(managed_object="feeder/1", specific_problem="ARCING", numbers={"i_a": 2.5})
    report = dapp.DAppReport(node, time_ns, identifier, sequence, alarm)
    assert dapp.decode_indication(*dapp.encode_indication(report)) == report


def test_dapp_report_that_is_no_alarm_is_refused() -> None:
    header, _ = dapp.encode_indication(dapp.DAppReport("n", 1, 1, 1, Alarm()))
    with pytest.raises(TwinRicError, match="E2-MALFORMED dapp_report"):
        dapp.decode_indication(header, b"\x0a\x02\xff\xff")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_dapp_any_octets_give_a_report_or_a_typed_error(header: bytes, payload: bytes) -> None:
    try:
        dapp.decode_indication(header, payload)
    except TwinRicError as error:
        assert error.code == "E2-MALFORMED"
