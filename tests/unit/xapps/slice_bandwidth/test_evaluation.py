"""The comparison that the model card and the gate rest on."""

import numpy as np
import pytest

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import (
    HELD_OUT_SEEDS,
    SUITES,
    TUNING_SEEDS,
    VALIDATION_SEEDS,
    Figures,
    clairvoyant,
    compare,
    gap_closed,
    interval,
    play,
    refusals,
    rules,
)  # fmt: skip


def figures(cost, by_seed):
    return Figures(cost, 1.0, 0.0, 0.0, by_seed, ())


def test_compare_who_sees_the_coming_load_is_not_beaten_by_who_does_not(untrained):
    table = {**rules(untrained), "clairvoyant": clairvoyant(20)}
    got = compare(table, (1,), SUITES["default_policy"], number=8, steps=40)
    myopic, best = got["myopic_oracle"].cost, got["clairvoyant"].cost
    assert best < myopic < got["enumerate_last_load"].cost < min(got[name].cost for name in ("gradient_eq2", "static"))
    assert got["static"].moved_slots == 0
    assert best < min(got["rl"].cost, got["predict_enumerate"].cost, got["threshold"].cost)


def test_rl_beyond_the_near_rt_loop_is_predict_and_enumerate(untrained):
    env = VectorSliceEnv(6, 5, period_s=10.0)
    table = rules(untrained)
    assert np.array_equal(play(table["rl"], env, 1), play(table["predict_enumerate"], env, 1))


def test_compare_is_repeatable():
    first, second = (compare(rules(None), (5,), suite, number=4, steps=10) for suite in [SUITES["random_policies"]] * 2)
    assert first == second


def test_gap_closed_by_hand():
    table = {"static": figures(4, ()), "myopic_oracle": figures(2, ()), "rl": figures(2.5, ())}
    assert gap_closed(table, "myopic_oracle") == pytest.approx(0.75)


def test_interval_by_hand():
    # Mean 2, standard deviation 1, three values: 4.303 / sqrt(3) either side.
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.303 / np.sqrt(3), 2 + 4.303 / np.sqrt(3)))


def test_refusals_name_the_suite_and_seed_that_a_model_loses():
    table = {"static": figures(4, (4.0, 4.0)), "gradient_eq2": figures(3, (3.0, 3.0)), "rl": figures(2, (2.0, 3.5))}
    assert refusals({"s": table}) == ["s: rl 3.5000 against gradient_eq2 3.0000 on held-out seed number 1"]


def test_seeds_of_validation_and_judgement_are_apart():
    assert not set(VALIDATION_SEEDS) & set(HELD_OUT_SEEDS)
    assert not set(TUNING_SEEDS) & set(HELD_OUT_SEEDS)
