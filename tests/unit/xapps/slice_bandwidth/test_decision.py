"""Every decision is feasible, whoever takes it; alarms put protection and control first; reasons say what it saves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ric.errors import TwinRicError
from xapps.slice_bandwidth.decision import decide, warm_up
from xapps.slice_bandwidth.forecast import persistence
from xapps.slice_bandwidth.model import SLICES, SLOT_STEP
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned

wide = st.floats(0, 1e6)


def feasible(slots, low):
    return slots.sum() <= 20 and (slots % SLOT_STEP == 0).all() and (slots >= low).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    load=st.tuples(wide, wide, wide),
    queue=st.tuples(wide, wide, wide),
    slots=st.tuples(*[st.integers(0, 20)] * 3),
    mode=st.sampled_from(list(Mode)),
    alarm=st.booleans(),
    moves=st.integers(1, 20),
)
def test_decide_is_feasible_for_any_input(make_state, untrained, load, queue, slots, mode, alarm, moves):
    policy = SlicePolicy(mode=mode, max_moved_slots=moves)
    state = make_state(load=load, queue=queue, slots=slots, alarm=alarm)
    got = decide(state, policy, untrained)
    assert feasible(got.slots, policy.minimum_slots(alarm=alarm))
    assert all(np.isfinite(value) for value in got.reason.numbers.values())


def test_decide_alarm_gives_protection_and_control_their_floors_in_one_decision(make_state, untrained):
    state = make_state(load=(4e3, 2e3, 60e3), slots=(2, 2, 16), alarm=True)
    got = decide(state, SlicePolicy(max_moved_slots=1), untrained)
    assert got.slots[0] >= 5
    assert got.slots[1] >= 8
    assert got.reason.code == "PROTECTION_FIRST"


def test_decide_keeps_alarm_floors_until_the_hold_time_is_over(make_state, untrained):
    policy = SlicePolicy(alarm_hold_s=10)
    load = (4e3, 2e3, 60e3)
    held = decide(make_state(load=load, slots=(5, 8, 7), cleared_s=9.9), policy, untrained)
    free = decide(make_state(load=load, slots=(5, 8, 7), cleared_s=10.1), policy, untrained)
    assert held.slots[1] >= 8
    assert free.slots[1] < 8
    assert free.reason.code == "RL_ACTOR"


def test_decide_rate_limit_is_kept(make_state, untrained):
    state = make_state(load=(60e3, 2e3, 2e3), slots=(2, 10, 8))
    got = decide(state, SlicePolicy(max_moved_slots=3), untrained)
    assert np.maximum(got.slots - state.slots, 0).sum() <= 3
    assert got.slots[0] == 5


def test_decide_congested_control_slice_gets_what_it_needs(make_state, untrained):
    got = decide(make_state(load=(48e3, 3e3, 8e3)), SlicePolicy(), untrained)
    assert got.slots[0] >= 9
    assert got.changed
    assert got.reason.numbers["violations_before"] > got.reason.numbers["violations_after"] == 0


def test_decide_oracle_mode_needs_the_forecaster_alone(make_state, untrained):
    policy = SlicePolicy(mode=Mode.ORACLE)
    got = decide(make_state(load=(48e3, 3e3, 8e3)), policy, replace(untrained, actor=None))
    assert got.slots[0] >= 9
    assert got.reason.code == "PREDICT_AND_ENUMERATE"
    with pytest.raises(TwinRicError) as caught:
        decide(make_state(), SlicePolicy(), replace(untrained, actor=None))
    assert (caught.value.code, caught.value.faults[0].field) == ("MODEL-MISSING", "actor")


def test_decide_beyond_the_near_rt_loop_the_actor_yields_to_the_forecast(make_state, untrained):
    slow = replace(make_state(), period_s=60.0)
    got = decide(slow, SlicePolicy(), untrained)
    assert got.reason.code == "PREDICT_AND_ENUMERATE"
    assert got.slots.tolist() == decide(slow, SlicePolicy(mode=Mode.ORACLE), untrained).slots.tolist()


def test_decide_overrides_name_the_layer_that_changed_the_choice(make_state):
    fewest = Learned(persistence, lambda rows: -rows[:, 15])  # wants as few slots as it can get
    calm = decide(make_state(load=(2e3, 2e3, 2e3)), SlicePolicy(max_moved_slots=20), fewest)
    assert calm.slots.tolist() == [1, 2, 1]
    assert calm.overrides == ()
    assert "overrides" not in calm.reason.details
    busy = decide(make_state(load=(80e3, 2e3, 2e3)), SlicePolicy(max_moved_slots=20), fewest)
    assert busy.overrides == ("DELAY_BOUND",)
    assert busy.slots[0] > 5
    slow = decide(make_state(load=(2e3, 2e3, 2e3)), SlicePolicy(max_moved_slots=2), fewest)
    assert slow.overrides == ("RATE_LIMIT",)
    assert slow.reason.details["overrides"] == "RATE_LIMIT"
    floor = SlicePolicy.model_validate({"control": {"floor_slots": 4}, "max_moved_slots": 20})
    held = decide(make_state(load=(2e3, 2e3, 2e3)), floor, fewest)
    assert (held.overrides, held.slots[0]) == (("FLOOR_OR_CEILING",), 4)


def test_decide_keeps_a_packet_delay_budget_in_the_modes_that_look_ahead(make_state):
    fewest = Learned(persistence, lambda rows: -rows[:, 15])
    state = make_state(load=(9e3, 2e3, 2e3), queue=(600, 0, 0))
    policy = SlicePolicy.model_validate({"control": {"packet_delay_budget_ms": 10}, "max_moved_slots": 20})
    for mode in (Mode.RL, Mode.ORACLE):
        got = decide(state, policy.model_copy(update={"mode": mode}), fewest)
        assert got.slots[0] >= 12
        assert got.overrides[-1] == "DELAY_BUDGET"
        assert decide(state, SlicePolicy(mode=mode, max_moved_slots=20), fewest).slots[0] < 12
    assert decide(state, policy.model_copy(update={"mode": Mode.STATIC}), fewest).slots.tolist() == [5, 10, 5]


def test_decide_takes_the_policy_of_its_own_node(make_state, untrained):
    policy = SlicePolicy.layered([
        SlicePolicy(mode=Mode.STATIC),
        SlicePolicy.model_validate({"scope": {"e2_node_id": "n2"}, "mode": "gradient"}),
    ])  # fmt: skip
    codes = [decide(make_state(node=node), policy, untrained).reason.code for node in ("n1", "n2")]
    assert codes == ["STATIC_SPLIT", "GRADIENT_TRANSFER"]


def test_decide_reason_holds_the_objective_and_its_terms(make_state, untrained):
    got = decide(make_state(load=(30e3, 4e3, 9e3)), SlicePolicy(), untrained)
    numbers = got.reason.numbers
    for when, objective in (("before", got.before), ("after", got.after)):
        terms = [
            numbers[f"{name}_{term}_{when}"]
            for name in SLICES
            for term in ("delay_term", "jitter_term", "bandwidth_term")
        ]
        assert sum(terms) == pytest.approx(numbers[f"objective_{when}"]) == pytest.approx(float(objective.total))
    literal = limits_of(SlicePolicy()).weights[0, 2] * got.slots[0]
    assert numbers["control_bandwidth_term_after"] == pytest.approx(literal)
    assert numbers["control_flexe_slots_after"] == got.slots[0]


def test_decide_weights_change_moves_the_decision(make_state, untrained):
    slots = []
    for gamma in (0.01, 0.99):
        weights = {"alpha": 1 - gamma, "beta": 0, "gamma": gamma}
        policy = SlicePolicy.model_validate({"monitoring": weights, "slot_move_cost": 0})
        slots.append(decide(make_state(load=(6e3, 3e3, 14e3)), policy, untrained).slots[2])
    assert slots[0] > slots[1]


def test_decide_without_an_actor_is_model_missing(make_state):
    with pytest.raises(TwinRicError) as caught:
        decide(make_state(), SlicePolicy(), None)
    assert caught.value.code == "MODEL-MISSING"
    assert decide(make_state(), SlicePolicy(mode=Mode.STATIC), None).slots.tolist() == [5, 10, 5]


def test_warm_up_runs_every_network_that_there_is(untrained):
    asked = []

    def noting(name):
        return lambda rows: asked.append(name) or getattr(untrained, name)(rows)

    warm_up(Learned(noting("forecaster")))
    warm_up(Learned(noting("forecaster"), noting("actor")))
    assert asked == ["forecaster", "forecaster", "actor"]
