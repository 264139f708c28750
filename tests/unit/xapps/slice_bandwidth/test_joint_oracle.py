"""The joint oracle against every pair of splits of two nodes, and against nodes that do not look at each other."""

import numpy as np
import pytest

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import myopic_oracle, play
from xapps.slice_bandwidth.joint_oracle import _costs, _stages, joint_oracle
from xapps.slice_bandwidth.lattice import SPLITS, index_of
from xapps.slice_bandwidth.objective import moved_slots


def crowded(cells, share, steps=12, seed=3):
    """An environment whose shared links have `share` of the nodes' own rates."""
    env = VectorSliceEnv(2 * cells, steps, random_policies=False, period_s=0.1, cells=cells)
    env.reset(np.random.default_rng(seed))
    env.shared_mbps = np.full(2, share * cells * 100_000.0)
    return env


def test_joint_oracle_against_all_pairs_of_splits():
    env = crowded(2, 0.12)
    stages = _stages(env)
    chosen = joint_oracle(env)

    def whole(rows):
        moves = moved_slots(env.slots, SPLITS[rows]) * 0.05
        return _costs(env, stages, rows, 0)[np.arange(2), rows[::2]] + moves.reshape(2, 2).sum(axis=1)

    mask = env.mask()
    best = np.full(2, np.inf)
    for first in np.flatnonzero(mask[0] & mask[2]):
        rows = np.tile(first, 4)
        costs = _costs(env, stages, rows, 1) + moved_slots(env.slots[1::2][:, None], SPLITS) * 0.05
        costs += moved_slots(env.slots[::2], SPLITS[first])[:, None] * 0.05
        best = np.minimum(best, np.where(mask[1::2], costs, np.inf).min(axis=1))
    assert (whole(chosen) <= best + 1e-9).all()
    assert (whole(chosen) < whole(np.array([index_of(slots) for slots in env.slots]))).all()


def test_joint_oracle_counts_what_nodes_make_each_other_wait():
    def alone(env):
        cost = myopic_oracle(env.situation(clairvoyant=True), env.policies.limits, env.link)
        return np.argmax(np.where(env.mask(), cost, -np.inf), axis=-1)

    costs = []
    for rule in (alone, joint_oracle):
        env = VectorSliceEnv(6, 10, random_policies=False, period_s=0.1, cells=3)
        costs.append(play(rule, env, 5)[0])
    assert costs[1] < costs[0]


def test_coupled_environment_refuses_a_number_that_its_cells_do_not_divide():
    with pytest.raises(ValueError, match="multiple of 4"):
        VectorSliceEnv(6, 4, cells=4)
