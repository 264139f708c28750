"""JSON bodies: what is taken, what is refused and how it is named."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.a1.bodies import check_schema, parse_object, schema_faults
from ric.errors import TwinRicError


def test_parse_object_takes_any_json_object() -> None:
    assert parse_object(b'{"a": [1, 2.5, "\xc3\xa9", null, true]}', "body") == {"a": [1, 2.5, "é", None, True]}


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"[]", b"1", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 5_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
)  # fmt: skip
def test_parse_object_anything_else_is_malformed(payload: bytes) -> None:
    with pytest.raises(TwinRicError, match="A1-MALFORMED body"):
        parse_object(payload, "body")


@given(st.binary(max_size=200))
def test_parse_object_any_octets_give_an_object_or_a_typed_error(payload: bytes) -> None:
    try:
        assert isinstance(parse_object(payload, "body"), dict)
    except TwinRicError as error:
        assert error.code in {"A1-MALFORMED", "A1-RANGE"}


def test_parse_object_huge_numbers_are_named() -> None:
    with pytest.raises(TwinRicError) as refused:
        parse_object(b'{"a": {"b": [1, 1e999]}, "c": 1' + b"0" * 400 + b"}", "body")
    assert [fault.field for fault in refused.value.faults] == ["a.b[1]", "c"]


numbers = st.one_of(st.integers(-5, 15), st.floats(-5, 15), st.text(max_size=2), st.none())


@given(st.dictionaries(st.sampled_from(["gain", "window", "other"]), numbers))
def test_schema_faults_agree_with_the_validator_and_name_only_fields_of_the_body(body):
    schema = {
        "properties": {"gain": {"type": "number", "maximum": 10}, "window": {"type": "integer", "minimum": 0}},
        "additionalProperties": False,
    }
    validator = jsonschema.Draft202012Validator(schema)
    faults = schema_faults(validator, body)
    assert bool(faults) == (not validator.is_valid(body))
    assert {fault.field for fault in faults} <= set(body)


def test_check_schema_refuses_a_reference_to_elsewhere():
    check_schema("policySchema", {"$defs": {"x": {}}, "$ref": "#/$defs/x"})
    with pytest.raises(TwinRicError, match="A1-MALFORMED policySchema"):
        check_schema("policySchema", {"$ref": "http://localhost/schema.json"})


@pytest.mark.parametrize("payload", [b'{"a\\ud800": 1}', b'{"a": ["\\udfff"]}', b'{"a": "\\ud83d x"}'])
def test_parse_object_half_a_surrogate_pair_is_malformed(payload: bytes) -> None:
    """Found by fuzzing: an answer that quotes it could not be encoded."""
    with pytest.raises(TwinRicError, match="A1-MALFORMED"):
        parse_object(payload, "body")


def test_parse_object_takes_a_whole_surrogate_pair() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00"}', "body") == {"a": "\U0001f600"}
