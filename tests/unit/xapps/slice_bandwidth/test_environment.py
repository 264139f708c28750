"""The vector environment: rewards by hand, masks, and what a shared link does to its nodes."""

import numpy as np

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.lattice import SPLITS
from xapps.slice_bandwidth.model import STATIC_SLOTS, LinkModel, predict
from xapps.slice_bandwidth.objective import evaluate


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
        whole = evaluate(got, SPLITS[row], one)
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


def test_vector_environment_on_a_shared_link_waits_for_the_others():
    together, alone = (VectorSliceEnv(8, 30, random_policies=False, period_s=0.1, cells=cells) for cells in (4, 1))
    for env in (together, alone):
        env.reset(np.random.default_rng(6))
    together.traffic, together.link, alone.traffic, alone.link = (alone.traffic, alone.link) * 2
    together.queue_mbit = alone.queue_mbit = np.zeros((8, 3))
    together.shared_mbps = np.full(2, 60_000.0)
    rows, waits = np.full(8, 300), []
    for _ in range(30):
        for env in (together, alone):
            env.step(rows)
        waits.append(together.observation().delay_ms - alone.observation().delay_ms)
    assert np.min(waits) >= -1e-9
    assert np.array_equal(together.queue_mbit, alone.queue_mbit)
    # Slices pass in priority: what control waits for is next to nothing beside what monitoring does.
    control, _, monitoring = np.mean(waits, axis=(0, 1))
    assert monitoring > 1.0
    assert control < 0.1 * monitoring


def test_vector_environment_believes_what_it_measures_of_its_links():
    env = VectorSliceEnv(16, 4, random_policies=False, period_s=0.1)
    env.reset(np.random.default_rng(9))
    assumed = np.abs(np.log(env.link.burst_mbit / LinkModel().burst_mbit)).mean()
    assert np.abs(np.log(env.link.burst_mbit / env.believed.burst_mbit)).mean() < 0.3 * assumed
