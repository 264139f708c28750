"""Features and scores: shape, range, vector equals scalar, the policy conditions the actor."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.baselines import predict_and_enumerate
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.forecast import persistence
from xapps.slice_bandwidth.lattice import permitted_of, sum_over_slices
from xapps.slice_bandwidth.model import LinkModel
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import (
    BASE,
    BASE_LIMIT,
    FEATURES,
    LIMIT,
    MOVE,
    Observation,
    features,
    scored,
    split_logits,
)  # fmt: skip
from xapps.slice_bandwidth.state import HISTORY


def observation(state):
    return Observation(
        state.offered_mbps, state.queue_mbit, state.delay_ms, state.jitter_ms, state.slots, np.asarray(0.1),
        np.asarray(state.alarm_active), state.link,
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1e6), st.floats(0, 1e5))
def test_features_stay_finite_and_in_range(seed, load, queue):
    generator = np.random.default_rng(seed)
    seen = Observation(
        generator.uniform(0, load + 1, (HISTORY, 3)), generator.uniform(0, queue + 1, 3), generator.uniform(0, 1e4, 3),
        generator.uniform(0, 1e4, 3), generator.integers(0, 21, 3), np.asarray(generator.choice([0.01, 0.1, 60.0])),
        np.asarray(True), LinkModel(),
    )  # fmt: skip
    rows = features(seen, persistence, limits_of(SlicePolicy()))
    assert rows.shape == (21, 3, FEATURES)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert np.abs(rows[..., 1:]).max() <= LIMIT
    assert rows[..., BASE].max() <= BASE_LIMIT


def test_features_vector_equals_scalar():
    env = VectorSliceEnv(5, 4, random_policies=False)
    seen = env.observation()
    many = features(seen, persistence, env.policies.limits)
    for k in range(5):
        link = LinkModel(*(value[k] for value in vars(seen.link).values()))
        one = Observation(*(np.asarray(value)[k] for name, value in vars(seen).items() if name != "link"), link)
        assert np.allclose(features(one, persistence, limits_of(SlicePolicy())), many[k], atol=1e-5)


def test_split_logits_are_sums_over_slices():
    scores = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
    assert np.array_equal(split_logits(scores), sum_over_slices(scores))


def test_scored_untrained_actor_prefers_what_predict_and_enumerate_does_where_moves_are_free(make_state, untrained):
    policy = SlicePolicy(slot_move_cost=0, max_moved_slots=20)
    limits = limits_of(policy)
    for load in ([8e3, 4e3, 9e3], [2e3, 4e3, 19e3], [14e3, 25e3, 12e3]):
        state = make_state(load=load)
        seen, mask = observation(state), permitted_of(policy, state.slots, alarm=False)
        preference = predict_and_enumerate(seen, untrained.forecaster, limits)
        logits = scored(untrained, seen, limits)
        assert np.argmax(np.where(mask, logits, -np.inf)) == np.argmax(np.where(mask, preference, -np.inf))


def test_scored_without_an_actor_says_so(make_state, untrained):
    with pytest.raises(TypeError, match="actor"):
        scored(replace(untrained, actor=None), observation(make_state()), limits_of(SlicePolicy()))


def test_features_carry_the_policy(make_state):
    seen = observation(make_state())
    base = features(seen, persistence, limits_of(SlicePolicy()))
    other = SlicePolicy.model_validate({"control": {"alpha": 0.1, "beta": 0.1, "gamma": 0.8}})
    changed = features(seen, persistence, limits_of(other))
    assert not np.allclose(base[:, 0], changed[:, 0])
    assert np.array_equal(base[:, 1:], changed[:, 1:])


def test_features_move_column_is_the_price_of_the_slots_between(make_state):
    rows = features(observation(make_state()), persistence, limits_of(SlicePolicy(slot_move_cost=0.2)))
    assert rows[:, 0, MOVE] == pytest.approx(0.2 * np.abs(np.arange(21) - 5), abs=1e-6)
