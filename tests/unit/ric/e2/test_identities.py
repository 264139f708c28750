"""Ranges of E2 ids."""

import pytest

from ric.e2.identities import NodeIdentity, RanFunction, check_keep_alive, read_functions, read_identity
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb


def test_e2_node_id_is_plmn_and_hexadecimal_ids() -> None:
    assert NodeIdentity("00101", 0xE2000001).e2_node_id == "00101-e2000001"
    assert NodeIdentity("310410", 0x5153, 0xAB).e2_node_id == "310410-5153-ab"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.GlobalE2NodeId(plmn_id="0010", gnb_id=1), "plmn_id"),
        (pb.GlobalE2NodeId(plmn_id="0010100", gnb_id=1), "plmn_id"),
        (pb.GlobalE2NodeId(plmn_id="٠٠١٠١", gnb_id=1), "plmn_id"),
        (pb.GlobalE2NodeId(plmn_id="00101"), "gnb_id"),
        (pb.GlobalE2NodeId(plmn_id="00101", gnb_id=1 << 32), "gnb_id"),
        (pb.GlobalE2NodeId(plmn_id="00101", gnb_id=1, gnb_du_id=1 << 36), "gnb_du_id"),
    ],
    ids=["short PLMN", "long PLMN", "digits of another script", "no gNB id", "gNB id of 33 bits", "DU id of 37 bits"],
)
def test_read_identity_out_of_range_names_the_field(message: pb.GlobalE2NodeId, field: str) -> None:
    with pytest.raises(TwinRicError) as caught:
        read_identity(message)
    assert [fault.field for fault in caught.value.faults] == [f"global_e2_node_id.{field}"]


def test_read_identity_reports_all_faults_together() -> None:
    with pytest.raises(TwinRicError) as caught:
        read_identity(pb.GlobalE2NodeId(plmn_id="x", gnb_du_id=1 << 40))
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("keep_alive_ms", [0, 99, 3_600_001])
def test_check_keep_alive_out_of_range_is_refused(keep_alive_ms: int) -> None:
    with pytest.raises(TwinRicError, match="keep_alive_ms"):
        check_keep_alive(keep_alive_ms)


def test_read_functions_rejects_one_and_keeps_the_others() -> None:
    good, far, odd = RanFunction(2, "1.3.6.1"), RanFunction(4_096, "1.3.6.1.2"), RanFunction(7, "one.two")
    accepted, rejected = read_functions([each.to_wire() for each in (good, far, odd)], "ran_functions")
    assert accepted == (good,)
    assert rejected[4_096].faults[0].field == "ran_functions[1].ran_function_id"
    assert rejected[7].faults[0].field == "ran_functions[2].oid"


def test_read_functions_same_id_twice_refuses_the_list() -> None:
    twice = [RanFunction(2, "1.3.6.1").to_wire(), RanFunction(2, "1.3.6.2").to_wire()]
    with pytest.raises(TwinRicError, match="each id once"):
        read_functions(twice, "ran_functions")


def test_read_functions_too_many_refuses_the_list() -> None:
    with pytest.raises(TwinRicError, match="LIMIT-SIZE"):
        read_functions([RanFunction(n, "1.3.6.1").to_wire() for n in range(257)], "ran_functions")
