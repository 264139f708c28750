"""The A1 policy type: defaults, bounds, what it refuses and how."""

import jsonschema
import pytest

from ric.app_policies import policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.config import validate
from ric.errors import TwinRicError
from xapps.slice_bandwidth.policy import POLICY_TYPE_ID, SlicePolicy

SPEC = AppSpec("slice_bandwidth", Ric.NEAR_RT, 100.0, POLICY_TYPE_ID, frozenset({"e2"}))


def test_policy_partial_slice_keeps_that_slices_other_defaults():
    policy = SlicePolicy.model_validate({"protection": {"alpha": 0.9}})
    assert policy.protection.d_max_ms == 5
    assert policy.protection.alarm_floor_slots == 8
    assert policy.monitoring == SlicePolicy().monitoring


def test_policy_minimum_slots_are_whole_granules_and_cover_the_bandwidth():
    policy = SlicePolicy.model_validate({"protection": {"b_min_mbps": 11_000}, "control": {"floor_slots": 3}})
    assert policy.minimum_slots(alarm=False) == (3, 4, 1)
    assert policy.minimum_slots(alarm=True) == (5, 8, 1)


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"control": {"alpha": 1.2}}, "control.alpha", "less than or equal to 1"),
        ({"control": {"alpha": 0, "beta": 0, "gamma": 0}}, "control", "alpha + beta + gamma above 0"),
        ({"control": {"floor_slots": 9, "ceiling_slots": 5}}, "control", "floor_slots <= ceiling_slots"),
        ({"monitoring": {"b_min_mbps": 90_000}}, "(whole)", "at most 20 slots together"),
        ({"protection": {"ceiling_slots": 6}}, "(whole)", "protection.ceiling_slots >= 8"),
        ({"mode": "clever"}, "mode", "'rl'"),
        ({"slot_move_kost": 1}, "slot_move_kost", "slot_move_cost"),
    ],
    ids=[
        "weight too large",
        "no weight",
        "crossed bounds",
        "minima too large",
        "ceiling under alarm floor",
        "mode",
        "typo",
    ],
)
def test_policy_out_of_range_is_refused_by_name(body: dict[str, object], field: str, said: str):
    with pytest.raises(TwinRicError) as caught:
        validate(SlicePolicy, body, "A1", unknown_code="A1-UNKNOWN-FIELD")
    assert caught.value.faults[0].field == field
    assert said in str(caught.value)


def test_policy_schema_accepts_the_default_and_describes_every_field():
    schema = policy_type_object(SlicePolicy, SPEC)["policySchema"]
    jsonschema.validate(SlicePolicy().model_dump(mode="json"), schema)
    objects = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    assert all("description" in field for part in objects for field in part["properties"].values())
