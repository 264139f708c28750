"""Features and choice: shape, range, vector equals scalar, the mask is obeyed, the policy conditions the actor."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.baselines import Situation, myopic_oracle
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.lattice import SPLITS, permitted_of, sum_over_slices
from xapps.slice_bandwidth.model import LinkModel
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import (
    BASE,
    BASE_LIMIT,
    FEATURES,
    LIMIT,
    Observation,
    choose,
    features,
    shielded,
    split_logits,
)  # fmt: skip

LINK = LinkModel()


def observation(state):
    return Observation(
        state.offered_mbps, state.queue_mbit, state.delay_ms, state.jitter_ms, state.slots, np.asarray(0.1),
        np.asarray(state.alarm_active),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1e6), st.floats(0, 1e5))
def test_features_stay_finite_and_in_range(seed, load, queue):
    generator = np.random.default_rng(seed)
    seen = Observation(
        generator.uniform(0, load + 1, (8, 3)), generator.uniform(0, queue + 1, 3), generator.uniform(0, 1e4, 3),
        generator.uniform(0, 1e4, 3), generator.integers(0, 21, 3), np.asarray(generator.choice([0.1, 60.0])),
        np.asarray(True),
    )  # fmt: skip
    rows = features(seen, limits_of(SlicePolicy()), LINK)
    assert rows.shape == (21, 3, FEATURES)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert np.abs(rows[..., 1:]).max() <= LIMIT
    assert rows[..., BASE].max() <= BASE_LIMIT


def test_features_vector_equals_scalar():
    env = VectorSliceEnv(5, 4, random_policies=False)
    seen = env.observation()
    many = features(seen, env.policies.limits, LINK)
    for k in range(5):
        one = Observation(*(np.asarray(value)[k] for value in vars(seen).values()))
        assert np.allclose(features(one, limits_of(SlicePolicy()), LINK), many[k], atol=1e-6)


def test_split_logits_are_sums_over_slices():
    scores = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
    assert np.array_equal(split_logits(scores), sum_over_slices(scores))


def test_choose_never_leaves_the_mask(make_state):
    generator = np.random.default_rng(1)
    for _ in range(50):
        policy = SlicePolicy(max_moved_slots=int(generator.integers(1, 21)))
        state = make_state(load=generator.uniform(0, 6e4, 3), slots=generator.integers(0, 12, 3))
        mask = permitted_of(policy, state.slots, alarm=False)
        noise = generator.normal(size=63).astype(np.float32)
        assert mask[int(choose(lambda rows, noise=noise: noise, observation(state), limits_of(policy), LINK, mask))]


def test_choose_untrained_prior_grants_what_the_myopic_oracle_does_and_no_less(make_state, prior_actor):
    policy = SlicePolicy(slot_move_cost=0, max_moved_slots=20)
    for load in ([8e3, 4e3, 9e3], [2e3, 4e3, 19e3], [14e3, 25e3, 12e3]):
        state = make_state(load=load)
        mask, limits = permitted_of(policy, state.slots, alarm=False), limits_of(policy)
        mine = SPLITS[int(choose(prior_actor, observation(state), limits, LINK, mask))]
        now = Situation(state.offered_mbps[-1], state.queue_mbit, state.slots, np.asarray(0.1))
        best = SPLITS[int(myopic_oracle(now, limits, LINK, mask))]
        # It looks two periods ahead, so it lets less backlog pile up.
        assert ((mine >= best) & (mine - best <= 2)).all()


def test_features_carry_the_policy(make_state):
    seen = observation(make_state())
    base = features(seen, limits_of(SlicePolicy()), LINK)
    other = SlicePolicy.model_validate({"control": {"alpha": 0.1, "beta": 0.1, "gamma": 0.8}})
    changed = features(seen, limits_of(other), LINK)
    assert not np.allclose(base[:, 0], changed[:, 0])
    assert np.array_equal(base[:, 1:], changed[:, 1:])
    assert SPLITS.shape == (525, 3)


def test_shielded_drops_splits_that_break_a_limit_unless_all_do(make_state):
    policy = SlicePolicy(max_moved_slots=20)
    limits = limits_of(policy)
    mask = permitted_of(policy, np.array([5, 10, 5]), alarm=False)
    heavy = shielded(observation(make_state(load=(48e3, 4e3, 9e3))), limits, LINK, mask)
    # 48 Gb/s for 100 ms: on 7 slots the delay spreads over 1,300 Mbit / 35 Gb/s = 37 ms, 10.7 ms of jitter against 10.
    assert (SPLITS[heavy][:, 0] >= 8).all()
    assert not (heavy & ~mask).any()
    hopeless = shielded(observation(make_state(load=(9e4, 9e4, 9e4))), limits, LINK, mask)
    assert np.array_equal(hopeless, mask)


def test_choose_follows_the_shield_whatever_the_actor_wants(make_state):
    policy = SlicePolicy(max_moved_slots=20)
    mask = permitted_of(policy, np.array([5, 10, 5]), alarm=False)
    fewest = lambda rows: -rows[:, 19]  # noqa: E731 - an actor that wants as few slots as it can
    row = choose(fewest, observation(make_state(load=(48e3, 4e3, 9e3))), limits_of(policy), LINK, mask)
    assert SPLITS[int(row)][0] == 8
