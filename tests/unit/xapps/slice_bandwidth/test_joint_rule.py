"""Nodes on shared links that decide together, in the environment."""

import numpy as np

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import as_served, play
from xapps.slice_bandwidth.joint_rule import decide_jointly

ARGUMENTS = {"random_policies": False, "period_s": 0.1, "cells": 3}


def alone(learned, env):
    preference = as_served(learned, env.observation(), env.policies.limits)
    return np.argmax(np.where(env.safe_mask(), preference, -np.inf), axis=-1)


class Crowded(VectorSliceEnv):
    """Shared links that their nodes fill."""

    def _draw(self, generator):
        super()._draw(generator)
        self.shared_mbps = np.full(self.number // self.cells, 0.14 * self.cells * 100_000.0)


def test_decide_jointly_costs_less_than_alone_where_links_fill(untrained):
    costs, broken = zip(
        *(play(lambda env, rule=rule: rule(untrained, env), Crowded(6, 30, **ARGUMENTS), 5)[[0, 2]]
          for rule in (alone, decide_jointly)),
        strict=True,
    )  # fmt: skip
    assert costs[1] < 0.9 * costs[0]
    assert broken[1] < broken[0]


def test_decide_jointly_stays_within_the_policies(untrained):
    env = Crowded(6, 12, random_policies=True, period_s=0.1, cells=3)
    env.reset(np.random.default_rng(4))
    done = False
    while not done:
        rows = decide_jointly(untrained, env)
        assert env.mask()[np.arange(6), rows].all()
        done = env.step(rows).done


def test_apart_the_observer_knows_the_backlog_of_links_that_it_never_sees():
    env = Crowded(6, 30, **ARGUMENTS)
    env.reset(np.random.default_rng(6))
    seen, largest = [], 0.0
    for _ in range(30):
        env.step(np.full(6, 180))
        observation, links = env.apart()
        seen.append(np.abs(np.stack([link.queue_mbit for link in links]) - env.shared_mbit).max())
        largest = max(largest, env.shared_mbit.max())
        assert (observation.delay_ms <= env.observation().delay_ms + 1e-9).all()
    assert largest > 100
    assert max(seen) < 1e-6 * largest
