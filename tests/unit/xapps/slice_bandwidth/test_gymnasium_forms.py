"""The Gymnasium forms pass the checker, rollouts repeat, forbidden actions are replaced."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from xapps.slice_bandwidth.gymnasium_forms import CoupledCellsEnv, SliceBandwidthEnv


@pytest.mark.parametrize("make", [lambda: SliceBandwidthEnv(steps=8), lambda: CoupledCellsEnv(cells=3, steps=8)],
                         ids=["one node", "nodes on a shared link"])  # fmt: skip
def test_environment_passes_the_gymnasium_checker(make):
    check_env(make(), skip_render_check=True)


def test_coupled_environment_pays_the_sum_of_its_nodes_and_replaces_what_is_forbidden():
    env, generator = CoupledCellsEnv(cells=3, steps=10), np.random.default_rng(1)
    env.reset(seed=4)
    done, rewards = False, []
    while not done:
        mask = env.unwrapped._vector.mask()
        _, reward, _, done, info = env.step(generator.integers(0, 525, 3))
        assert mask[np.arange(3), info["split"]].all()
        rewards.append(reward)
        assert info["objective"].shape == (3,)
    assert len(rewards) == 10
    assert max(rewards) < 0


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
