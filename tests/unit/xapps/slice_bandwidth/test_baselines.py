"""Static split, eq (2) and the exact optimum: by hand, and against a search written apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.baselines import Situation, gradient_transfer, lattice_cost, myopic_oracle, static_split
from xapps.slice_bandwidth.lattice import SPLITS, index_of, permitted_of
from xapps.slice_bandwidth.model import LinkModel, predict
from xapps.slice_bandwidth.objective import evaluate, limits_of
from xapps.slice_bandwidth.policy import SlicePolicy

LINK, STATIC = LinkModel(), np.array([5, 10, 5])


def situation(load: list[float], queue: list[float] | None = None, slots: list[int] | None = None) -> Situation:
    queue_mbit = np.array(queue or [0.0, 0.0, 0.0])
    return Situation(np.array(load), queue_mbit, np.array(slots or [5, 10, 5]), np.array(0.1))


def brute_force(now: Situation, policy: SlicePolicy) -> float:
    """Least cost by three nested loops and scalar calls, without the lattice, its tables or its masks."""
    limits, best = limits_of(policy), np.inf
    for control in range(1, 21):
        for protection in range(2, 21 - control, 2):
            for monitoring in range(1, 21 - control - protection):
                split = np.array([control, protection, monitoring])
                gained, lost = np.maximum(split - now.slots, 0).sum(), np.maximum(now.slots - split, 0).sum()
                if max(gained, lost) > policy.max_moved_slots:
                    continue
                got = predict(now.offered_mbps, now.queue_mbit, split, 0.1, LINK)
                whole = evaluate(got.delay_ms, got.jitter_ms, split, limits)
                cost = float(whole.total + whole.penalty(limits)) + policy.slot_move_cost * max(gained, lost)
                best = min(best, cost)
    return best


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0, 80_000), min_size=3, max_size=3),
    st.lists(st.floats(0, 2_000), min_size=3, max_size=3),
    st.sampled_from(["literal", "shortfall"]),
    st.integers(3, 20),
)
def test_myopic_oracle_against_brute_force(load, queue, form, moves):
    policy = SlicePolicy(third_term=form, max_moved_slots=moves)
    now = situation(load, queue)
    mask = permitted_of(policy, now.slots, alarm=False)
    row = int(myopic_oracle(now, limits_of(policy), LINK, mask))
    assert mask[row]
    assert lattice_cost(now, limits_of(policy), LINK)[row] == pytest.approx(brute_force(now, policy))


def test_myopic_oracle_weights_move_the_optimum():
    # Under the shortfall form idle bandwidth is worth something, and a slice's weight says to whom it goes.
    base = {"third_term": "shortfall", "slot_move_cost": 0}
    shares = []
    for favoured in ("control", "monitoring"):
        policy = SlicePolicy.model_validate({**base, favoured: {"alpha": 0, "beta": 0, "gamma": 1}})
        mask = permitted_of(policy, STATIC, alarm=False)
        shares.append(SPLITS[int(myopic_oracle(situation([4e3, 3e3, 4e3]), limits_of(policy), LINK, mask))])
    assert shares[0][0] > shares[1][0]
    assert shares[0][2] < shares[1][2]


def test_myopic_oracle_dearer_bandwidth_is_granted_less():
    cheap = SlicePolicy.model_validate({"monitoring": {"alpha": 1, "beta": 0, "gamma": 0.01}})
    dear = SlicePolicy.model_validate({"monitoring": {"alpha": 0.01, "beta": 0, "gamma": 1}})
    got = []
    for policy in (cheap, dear):
        mask = permitted_of(policy, STATIC, alarm=False)
        got.append(SPLITS[int(myopic_oracle(situation([6e3, 3e3, 14e3]), limits_of(policy), LINK, mask))][2])
    assert got[0] > got[1]


def test_static_split_stays_unless_the_policy_forbids_it():
    free = SlicePolicy()
    assert int(static_split(permitted_of(free, STATIC, alarm=False))) == index_of(STATIC)
    tight = SlicePolicy.model_validate({"protection": {"ceiling_slots": 8}})
    assert SPLITS[int(static_split(permitted_of(tight, STATIC, alarm=False)))].tolist() == [5, 8, 5]


def test_gradient_transfer_gives_idle_monitoring_slots_to_a_congested_control_slice():
    policy = SlicePolicy()
    mask = permitted_of(policy, STATIC, alarm=False)
    got = SPLITS[int(gradient_transfer(situation([27e3, 5e3, 4e3], [200, 0, 0]), limits_of(policy), LINK, mask))]
    assert got[0] > 5
    assert got[2] < 5
    assert got[1] == 10
    assert got.sum() == 20


def test_gradient_transfer_gives_back_once_the_need_is_elsewhere():
    policy = SlicePolicy()
    slots = [9, 10, 1]
    mask = permitted_of(policy, np.array(slots), alarm=False)
    now = situation([3e3, 5e3, 20e3], [0, 0, 800], slots)
    got = SPLITS[int(gradient_transfer(now, limits_of(policy), LINK, mask))]
    assert got[2] > 1
    assert got[0] < 9


def test_baselines_vector_equals_scalar():
    generator = np.random.default_rng(3)
    load, queue = generator.uniform(0, 6e4, (12, 3)), generator.uniform(0, 500, (12, 3))
    many = Situation(load, queue, np.tile(STATIC, (12, 1)), np.full(12, 0.1))
    mask, limits = permitted_of(SlicePolicy(), STATIC, alarm=False), limits_of(SlicePolicy())
    for rule in (gradient_transfer, myopic_oracle):
        rows = rule(many, limits, LINK, np.tile(mask, (12, 1)))
        single = [int(rule(Situation(load[k], queue[k], STATIC, np.array(0.1)), limits, LINK, mask)) for k in range(12)]
        assert rows.tolist() == single
