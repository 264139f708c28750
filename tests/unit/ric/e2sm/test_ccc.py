"""E2SM-CCC: round trips, every bound by name, and any octets give a typed error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2sm import ccc
from ric.errors import TwinRicError


@st.composite
def ratios(draw: st.DrawFn) -> tuple[ccc.SliceRatio, ...]:
    names = draw(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=6, unique=True))
    left, made = 100, []
    for name in names:
        dedicated = draw(st.integers(0, left))
        left -= dedicated
        top = draw(st.integers(dedicated, 100))
        low = draw(st.integers(0, top))
        shares = {"rrm_policy_dedicated_ratio": dedicated, "rrm_policy_max_ratio": top, "rrm_policy_min_ratio": low}
        made.append(ccc.SliceRatio(s_nssai=f"1-{name:06x}", **shares))
    return tuple(made)


@given(ratios())
def test_ccc_control_and_outcome_round_trip(made: tuple[ccc.SliceRatio, ...]) -> None:
    assert ccc.decode_control(*ccc.encode_control(made)) == made
    assert ccc.decode_outcome(ccc.encode_outcome(made)) == made


def test_ccc_wire_has_the_standards_names() -> None:
    _, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    (structure,) = json.loads(payload)["controlMessageFormat"]["listOfConfigurationStructures"]
    assert structure["ranConfigurationStructureName"] == "O-RRMPolicyRatio"
    values = structure["newAttributeValues"]
    assert values["rRMPolicyDedicatedRatio"] == 25
    assert values["rRMPolicyMemberList"][0]["snssai"] == {"sst": 1, "sd": "000001"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rRMPolicyDedicatedRatio": 101}, "rrm_policy_dedicated_ratio"),
        ({"rRMPolicyMinRatio": -1}, "rrm_policy_min_ratio"),
        ({"rRMPolicyMaxRatio": "all"}, "rrm_policy_max_ratio"),
        ({"rRMPolicyMaxRatio": 10}, "ratios"),
        ({"rRMPolicyMemberList": []}, "rRMPolicyMemberList"),
        ({"rRMPolicyMemberList": [{"snssai": {"sst": 1, "sd": "zz"}}]}, "s_nssai"),
    ],
)
def test_ccc_bad_ratio_is_refused_by_name(change: dict[str, object], field: str) -> None:
    header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    body = json.loads(payload)
    body["controlMessageFormat"]["listOfConfigurationStructures"][0]["newAttributeValues"].update(change)
    with pytest.raises(TwinRicError) as refused:
        ccc.decode_control(header, json.dumps(body).encode())
    assert refused.value.code == "E2-RANGE"
    assert field in refused.value.faults[0].field


def test_ccc_ratios_that_exceed_the_link_are_refused_on_both_ways() -> None:
    two = [ccc.SliceRatio(s_nssai=f"1-00000{n}", rrm_policy_dedicated_ratio=60) for n in (1, 2)]
    with pytest.raises(TwinRicError, match="sum to at most 100"):
        ccc.encode_control(tuple(two))
    with pytest.raises(TwinRicError, match="each s_nssai once"):
        ccc.encode_control((two[0].model_copy(update={"rrm_policy_dedicated_ratio": 1}),) * 2)


@pytest.mark.parametrize("head", [1, [], "1", None, {"ricStyleType": 2}], ids=repr)
def test_ccc_header_of_another_shape_is_refused(head: object) -> None:
    _, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    with pytest.raises(TwinRicError, match=r"E2-(MALFORMED|RANGE) control_header"):
        ccc.decode_control(json.dumps({"controlHeaderFormat": head}).encode(), payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["controlHeaderFormat", "ricStyleType", "controlMessageFormat", "listOfConfigurationStructures",
         "ranConfigurationStructureName", "newAttributeValues", "rRMPolicyMemberList", "snssai", "sst", "sd"]
    ), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()), JSON)
def test_ccc_any_octets_give_a_typed_error(octets: bytes, value: object) -> None:
    good = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
    structure = {"ranConfigurationStructureName": "O-RRMPolicyRatio", "newAttributeValues": value}
    deep = json.dumps({"controlMessageFormat": {"listOfConfigurationStructures": [structure]}}).encode()
    for header, payload in ((octets, good[1]), (good[0], octets), (good[0], deep)):
        with pytest.raises(TwinRicError) as refused:
            ccc.decode_control(header, payload)
        assert refused.value.code in {"E2-MALFORMED", "E2-RANGE"}
