"""The Gymnasium form passes the checker; rollouts repeat; the vector form conserves what it should."""

import numpy as np
from gymnasium.utils.env_checker import check_env

from xapps.slice_bandwidth.environment import SliceBandwidthEnv, VectorSliceEnv
from xapps.slice_bandwidth.lattice import SPLITS
from xapps.slice_bandwidth.model import STATIC_SLOTS, predict
from xapps.slice_bandwidth.objective import evaluate


def test_environment_passes_the_gymnasium_checker():
    check_env(SliceBandwidthEnv(steps=16), skip_render_check=True)


def rollout(seed):
    env = SliceBandwidthEnv(steps=12)
    seen, info = env.reset(seed=seed)
    out, generator, done = [seen], np.random.default_rng(0), False
    while not done:
        action = generator.choice(np.flatnonzero(info["action_mask"]))
        seen, reward, _, done, info = env.step(action)
        out.append(np.append(seen.ravel(), reward))
    return out


def test_environment_same_seed_same_rollout_bit_for_bit():
    first, second, other = rollout(7), rollout(7), rollout(8)
    assert len(first) == 13
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_environment_forbidden_action_is_replaced_by_a_permitted_one():
    env = SliceBandwidthEnv(steps=20)
    _, info = env.reset(seed=3)
    for _ in range(15):
        mask = info["action_mask"]
        forbidden = np.flatnonzero(~mask)
        _, _, _, _, info = env.step(forbidden[0] if len(forbidden) else 0)
        assert mask[info["split"]] or not len(forbidden)


def test_vector_environment_reward_is_minus_objective_violations_and_moves():
    env = VectorSliceEnv(6, 5, random_policies=False, period_s=0.1)
    env.reset(np.random.default_rng(2))
    queue, load = env.queue_mbit.copy(), env.traffic.offered_mbps[env.at]
    rows = np.array([0, 50, 100, 200, 300, 524])
    result = env.step(rows)
    for k, row in enumerate(rows):
        link = type(env.link)(*(value[k] for value in vars(env.link).values()))
        got = predict(load[k], queue[k], SPLITS[row], 0.1, link)
        limits = env.policies.limits
        one = type(limits)(*(np.asarray(value)[k] for value in vars(limits).values()))
        whole = evaluate(got.delay_ms, got.jitter_ms, SPLITS[row], one)
        capped = np.minimum(whole.terms[:, :2], 10.0).sum() + whole.terms[:, 2].sum()
        moved = np.maximum(SPLITS[row] - STATIC_SLOTS, 0).sum(), np.maximum(STATIC_SLOTS - SPLITS[row], 0).sum()
        expected = -(capped + float(whole.penalty(one)) + 0.05 * max(moved))
        assert np.isclose(result.reward[k], expected)


def test_vector_environment_mask_raises_alarm_floors():
    env = VectorSliceEnv(64, 150, random_policies=False, period_s=0.1)
    env.reset(np.random.default_rng(11))
    seen = 0
    for _ in range(140):
        mask, alarm = env.mask(), env.alarm
        for k in np.flatnonzero(alarm):
            assert (SPLITS[mask[k]] >= [5, 8, 1]).all()
            seen += 1
        env.step(mask.argmax(axis=1))
    assert seen > 20


def test_vector_environment_safe_mask_is_part_of_the_mask_and_never_empty():
    env = VectorSliceEnv(32, 20)
    env.reset(np.random.default_rng(5))
    for _ in range(20):
        mask, safe = env.mask(), env.safe_mask()
        assert not (safe & ~mask).any()
        assert safe.any(axis=1).all()
        env.step(safe.argmax(axis=1))


def test_vector_environment_unseen_policies_and_loads_lie_outside_of_what_training_draws():
    known, unseen = (VectorSliceEnv(400, 3, period_s=0.1, unseen=value) for value in (False, True))
    spread = [np.abs(np.log(env.policies.limits.d_max_ms / [50, 5, 100])).max() for env in (known, unseen)]
    assert spread[0] <= np.log(2.5) + 1e-9 < spread[1]
    default = known.policies.limits.d_max_ms[:, 0] == 50
    assert default.any()
    assert not (unseen.policies.limits.d_max_ms[:, 0] == 50).any()
