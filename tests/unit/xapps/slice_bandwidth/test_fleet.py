"""One cycle: what is due, alone and on links that nodes share; one reason for all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.aggregation import SharedWait
from xapps.slice_bandwidth.decision import decide
from xapps.slice_bandwidth.fleet import SILENT_PERIODS, decide_fleet, fleet_decision
from xapps.slice_bandwidth.model import SLICES
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import FleetState, LinkState


def test_decide_fleet_decides_only_what_is_due_and_tells_each_node_apart(make_state, untrained):
    nodes = (make_state(node="n1"), make_state(load=(40e3, 3e3, 8e3), node="n2"), make_state(alarm=True, node="n3"))
    one = decide_fleet(FleetState(nodes, frozenset({"n2"})), SlicePolicy(), untrained)
    assert [node.e2_node_id for node in one.nodes] == ["n2"]
    assert one.reason.details["e2_node_id"] == "n2"
    two = decide_fleet(FleetState(nodes, frozenset({"n2", "n3"})), SlicePolicy(), untrained)
    assert two.reason.code == "PROTECTION_FIRST"
    assert two.reason.numbers["n2/objective_after"] == one.reason.numbers["objective_after"]
    assert fleet_decision([]).reason.code == "NO_NODE"


def test_decide_fleet_runs_the_networks_once_and_decides_as_one_by_one(make_state, untrained):
    loads = ((8e3, 4e3, 9e3), (40e3, 3e3, 8e3), (6e3, 20e3, 12e3), (3e3, 3e3, 60e3))
    nodes = tuple(make_state(load=load, node=f"n{k}") for k, load in enumerate(loads))
    calls = []

    def counted(rows):
        calls.append(len(rows))
        return untrained.actor(rows)

    policy = SlicePolicy.layered([
        SlicePolicy(slot_move_cost=0.01),
        SlicePolicy.model_validate({"scope": {"e2_node_id": "n3"}, "monitoring": {"gamma": 0.01}}),
    ])  # fmt: skip
    fleet = FleetState(nodes, frozenset(node.e2_node_id for node in nodes))
    made = decide_fleet(fleet, policy, replace(untrained, actor=counted))
    assert calls == [len(nodes) * 63]
    alone = [decide(node, policy, untrained) for node in nodes]
    assert [node.slots.tolist() for node in made.nodes] == [node.slots.tolist() for node in alone]
    assert len({tuple(node.slots) for node in made.nodes}) > 1


NAMES = ("n1", "n2", "n3")


def linked(mbps, queue=(0, 0, 0), names=NAMES):
    return LinkState("ring-1", names, mbps, 5_000.0, np.array(queue, float))


@pytest.fixture
def crowd(make_state):
    """Three nodes, the first with more monitoring traffic than a link of 80 Gb/s has room for."""

    def make(**changes):
        loads = ((8e3, 4e3, 55e3), (8e3, 4e3, 9e3), (8e3, 4e3, 9e3))
        made = [make_state(load=load, slots=(3, 2, 12), node=name) for load, name in zip(loads, NAMES, strict=True)]
        return tuple(replace(node, **changes.get(node.e2_node_id, {})) for node in made)

    return make


def whole(nodes, *links, due=NAMES):
    return FleetState(nodes, frozenset(due), links)


def test_decide_fleet_a_link_with_room_changes_nothing_but_says_so(crowd, untrained):
    apart = decide_fleet(whole(crowd()), SlicePolicy(), untrained)
    roomy = decide_fleet(whole(crowd(), linked(1e6)), SlicePolicy(), untrained)
    for one, other in zip(apart.nodes, roomy.nodes, strict=True):
        assert other.slots.tolist() == one.slots.tolist()
        assert other.reason.code == one.reason.code
        added = {f"{name}_link_wait_cost{when}": 0.0 for name in SLICES for when in ("", "_alone")}
        assert other.reason.numbers == {**one.reason.numbers, **added}


def test_decide_fleet_links_of_other_nodes_leave_a_decision_as_it_is(crowd, untrained):
    apart = decide_fleet(whole(crowd()), SlicePolicy(), untrained)
    other = decide_fleet(whole(crowd(), linked(1e3, names=("n8", "n9"))), SlicePolicy(), untrained)
    assert [node.reason for node in other.nodes] == [node.reason for node in apart.nodes]


def test_decide_fleet_who_fills_the_link_holds_back_and_says_for_whom(crowd, untrained):
    apart = decide_fleet(whole(crowd()), SlicePolicy(), untrained)
    made = decide_fleet(whole(crowd(), linked(80e3)), SlicePolicy(), untrained)
    first = made.nodes[0]
    assert first.slots[2] < apart.nodes[0].slots[2]
    assert first.reason.code == made.reason.code == "SHARED_LINK"
    assert first.overrides == ("SHARED_LINK",)
    assert first.reason.details["aggregation_link"] == "ring-1"
    assert first.reason.details["held_back_for"] == "n2,n3"
    assert made.reason.details["n1/held_back_for"] == "n2,n3"
    numbers = first.reason.numbers
    assert numbers["monitoring_link_wait_cost"] < 0.2 * numbers["monitoring_link_wait_cost_alone"]
    assert [numbers[f"{name}_flexe_slots_alone"] for name in SLICES] == apart.nodes[0].slots.tolist()
    assert made.nodes[1].reason.code == "RL_ACTOR"


def test_decide_fleet_nodes_that_are_not_due_keep_their_slots_and_still_count(crowd, untrained):
    apart = decide_fleet(whole(crowd(), due=("n1",)), SlicePolicy(), untrained)
    made = decide_fleet(whole(crowd(), linked(80e3), due=("n1",)), SlicePolicy(), untrained)
    assert [node.e2_node_id for node in made.nodes] == ["n1"]
    assert made.nodes[0].slots[2] < apart.nodes[0].slots[2]
    assert made.reason.details["held_back_for"] == "n2,n3"


def test_decide_fleet_nodes_in_other_modes_are_not_overruled(crowd, untrained):
    policy = SlicePolicy.layered([
        SlicePolicy.model_validate({"scope": {"e2_node_id": name}, "mode": mode})
        for name, mode in (("n1", "static"), ("n2", "gradient"))
    ])  # fmt: skip
    made = decide_fleet(whole(crowd(), linked(40e3)), policy, untrained)
    assert made.nodes[0].slots.tolist() == [5, 10, 5]
    assert [node.reason.code for node in made.nodes[:2]] == ["STATIC_SPLIT", "GRADIENT_TRANSFER"]
    every = decide_fleet(whole(crowd(), linked(40e3)), SlicePolicy(mode="static"), None)
    assert [node.slots.tolist() for node in every.nodes] == [[5, 10, 5]] * 3


def test_decide_fleet_silent_nodes_and_unlike_periods_are_left_out(crowd, untrained):
    apart = decide_fleet(whole(crowd()), SlicePolicy(), untrained).nodes[1]
    crowded = crowd(n1={"source_time_ns": 10**9 - int((SILENT_PERIODS + 1) * 1e8)})
    made = decide_fleet(whole(crowded, linked(80e3), due=("n2", "n3")), SlicePolicy(), untrained)
    assert made.nodes[0].slots.tolist() == apart.slots.tolist()
    unlike = crowd(n3={"period_s": 0.2})
    made = decide_fleet(whole(unlike, linked(80e3)), SlicePolicy(), untrained)
    assert all("aggregation_link" not in node.reason.details for node in made.nodes)


def test_decide_fleet_alarm_floors_hold_on_a_full_link(crowd, untrained):
    made = decide_fleet(whole(crowd(n1={"alarm_active": True}), linked(30e3)), SlicePolicy(), untrained)
    assert made.nodes[0].slots[0] >= 5
    assert made.nodes[0].slots[1] >= 8
    assert made.reason.code == made.nodes[0].reason.code == "PROTECTION_FIRST"


def test_decide_fleet_what_a_link_adds_is_told_but_not_taken_for_the_nodes_own(crowd, untrained):
    wait = SharedWait(np.array([0.0, 0.0, 40.0]), np.array([0.0, 0.0, 25.0]), np.array([0.0, 0.0, 900.0]), np.zeros(3))
    jitter = np.sqrt([0.01, 0.01, 25.01])
    measured = {"delay_ms": np.array([1.0, 1.0, 41.0]), "jitter_ms": jitter, "shared": wait}
    seen = []

    def noted(rows):
        seen.append(rows.copy())
        return untrained.actor(rows)

    plain = decide(crowd()[1], SlicePolicy(), replace(untrained, actor=noted))
    late = decide(crowd(n2=measured)[1], SlicePolicy(), replace(untrained, actor=noted))
    assert seen[0] == pytest.approx(seen[1], abs=1e-5)
    assert late.slots.tolist() == plain.slots.tolist()
    before = late.reason.numbers["monitoring_delay_term_before"]
    assert before == pytest.approx(plain.reason.numbers["monitoring_delay_term_before"] + 0.4 * 40 / 100)


wide = st.floats(0, 1e6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    loads=st.tuples(*[st.tuples(wide, wide, wide)] * 3),
    mbps=st.floats(1, 1e6),
    queue=st.tuples(*[st.floats(0, 5e3)] * 3),
    alarm=st.booleans(),
    moves=st.integers(1, 20),
    due=st.sets(st.sampled_from(NAMES), min_size=1),
)
def test_decide_fleet_is_feasible_on_any_link(make_state, untrained, loads, mbps, queue, alarm, moves, due):
    policy = SlicePolicy(max_moved_slots=moves)
    nodes = tuple(make_state(load=load, alarm=alarm, node=name) for load, name in zip(loads, NAMES, strict=True))
    made = decide_fleet(whole(nodes, linked(mbps, queue), due=due), policy, untrained)
    assert {node.e2_node_id for node in made.nodes} == due
    for node in made.nodes:
        assert node.slots.sum() <= 20
        assert (node.slots >= policy.minimum_slots(alarm=alarm)).all()
        assert (node.slots % (1, 2, 1) == 0).all()
        if not alarm:
            assert np.maximum(node.slots - (5, 10, 5), 0).sum() <= moves
    assert all(np.isfinite(value) for value in made.reason.numbers.values())
