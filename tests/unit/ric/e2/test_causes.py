"""Causes on the wire against the error catalogue."""

import pytest

from ric.e2.causes import CAUSES, cause_of, code_of, error_of
from ric.errors import CATALOGUE, TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_cause_of_every_catalogue_code_is_an_accepted_value(code: str) -> None:
    cause = cause_of(TwinRicError(code, "some.field", 7, "1..3"))
    group = pb.CauseGroup.Name(cause.group).removeprefix("CAUSE_GROUP_").lower()
    assert cause.value in CAUSES[group]
    assert (cause.field, cause.accepted) == ("some.field", "1..3")


@pytest.mark.parametrize(
    "code",
    ["E2-RANGE", "E2-MALFORMED", "E2-FUNCTION-UNKNOWN", "E2-ACTION", "E2-DEADLINE", "E2-LOST", "E2-NODE-UNKNOWN",
     "E2-REQUEST-UNKNOWN", "E2-STATE", "E2-UNVERIFIED"],
)  # fmt: skip
def test_error_of_a_cause_that_we_made_has_the_same_code(code: str) -> None:
    error = error_of(cause_of(TwinRicError(code, "a.b", "x", "y")), "RIC Control")
    assert error.code == code
    assert (error.faults[0].field, error.faults[0].accepted) == ("a.b", "y")


def test_error_of_an_unknown_cause_keeps_the_peers_words() -> None:
    error = error_of(pb.Cause(value="because", text="Not today."), "E2 Setup")
    assert error.code == "E2-STATE"
    assert "because" in str(error.faults[0].value)
    assert "Not today." in error.faults[0].remedy
    assert error.faults[0].field == "e2_setup"


def test_code_of_a_group_number_that_does_not_exist_is_defined() -> None:
    cause = pb.Cause()
    cause.ParseFromString(b"\x08\x63")  # group 99: proto3 enumerations are open
    assert code_of(cause) == "E2-STATE"
