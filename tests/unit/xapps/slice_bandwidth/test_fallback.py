"""The safe action: eq (2) while the load is known, static when not, feasible and never raising."""

from dataclasses import replace

import numpy as np
import pytest

from ric.decision import Reason
from xapps.slice_bandwidth.fallback import fall_back, fall_back_fleet
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import FleetState


@pytest.mark.parametrize("code", ["MODEL_MISSING", "MODEL_SHAPE", "LATE"])
def test_fall_back_without_a_model_uses_eq_2_and_says_why(make_state, code):
    state = make_state(load=(27e3, 5e3, 4e3), queue=(200, 0, 0))
    got = fall_back(state, SlicePolicy(), Reason(code, {"limit": 1.0}, {"fault": "gone"}))
    assert got.slots[0] > 5
    assert got.slots[2] < 5
    assert got.reason.code == code
    assert got.reason.details["safe_action"] == "gradient_eq2"
    assert got.reason.details["fault"] == "gone"
    assert got.reason.numbers["limit"] == 1.0


def test_fall_back_on_stale_input_returns_to_the_static_split(make_state):
    state = make_state(load=(27e3, 5e3, 4e3), slots=(9, 8, 3))
    got = fall_back(state, SlicePolicy(), Reason("STALE_INPUT"))
    assert got.slots.tolist() == [5, 10, 5]
    assert got.reason.details["safe_action"] == "static"


def test_fall_back_with_broken_numbers_still_returns_the_static_split(make_state):
    state = replace(make_state(), offered_mbps=np.full((16, 3), np.nan), queue_mbit=np.full(3, np.inf))
    got = fall_back(state, SlicePolicy(), Reason("DECISION_FAILED"))
    assert got.slots.tolist() == [5, 10, 5]
    assert np.isfinite(got.reason.numbers["objective_after"])


def test_fall_back_holds_alarm_floors(make_state):
    got = fall_back(make_state(slots=(2, 2, 16), alarm=True), SlicePolicy(), Reason("LATE"))
    assert got.slots[0] >= 5
    assert got.slots[1] >= 8


def test_fall_back_fleet_covers_all_nodes_when_input_is_stale(make_state):
    fleet = FleetState((make_state(node="n1"), make_state(node="n2")), frozenset({"n1"}))
    assert len(fall_back_fleet(fleet, SlicePolicy(), Reason("STALE_INPUT")).nodes) == 2
    late = fall_back_fleet(fleet, SlicePolicy(), Reason("LATE"))
    assert [node.e2_node_id for node in late.nodes] == ["n1"]
    assert late.reason.code == "LATE"
