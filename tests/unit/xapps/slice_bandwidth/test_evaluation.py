"""The comparison that the model card and the gate rest on."""

import pytest

from xapps.slice_bandwidth.evaluation import (
    HELD_OUT_SEEDS,
    SUITES,
    VALIDATION_SEEDS,
    Figures,
    compare,
    gap_closed,
    refusals,
    rules,
)  # fmt: skip


def figures(cost, by_seed):
    return Figures(cost, 1.0, 0.0, 0.0, by_seed)


def test_compare_oracle_of_the_coming_load_is_not_beaten_by_the_baselines(prior_actor):
    got = compare(rules(prior_actor), (1,), "default_policy_100ms", number=16, steps=40)
    best = got["oracle_coming_load"].cost
    assert best < got["oracle_last_load"].cost < got["gradient_eq2"].cost <= got["static"].cost
    assert got["static"].moved_slots == 0
    assert got["rl"].cost == pytest.approx(got["oracle_last_load"].cost, rel=0.2)


def test_compare_is_repeatable():
    first, second = (compare(rules(None), (5,), suite, number=4, steps=10) for suite in [list(SUITES)[1]] * 2)
    assert first == second


def test_gap_closed_by_hand():
    table = {"static": figures(4, ()), "oracle_coming_load": figures(2, ()), "rl": figures(2.5, ())}
    assert gap_closed(table, "static") == pytest.approx(0.75)


def test_refusals_name_the_suite_and_seed_that_a_model_loses():
    table = {"static": figures(4, (4.0, 4.0)), "gradient_eq2": figures(3, (3.0, 3.0)), "rl": figures(2, (2.0, 3.5))}
    assert refusals({"s": table}) == ["s: rl 3.5000 against gradient_eq2 3.0000 on held-out seed number 1"]


def test_seeds_of_validation_and_judgement_are_apart():
    assert not set(VALIDATION_SEEDS) & set(HELD_OUT_SEEDS)
