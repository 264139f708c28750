"""Eq (3) by hand, in both forms, and that the table is the same thing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.model import LinkModel, Prediction, predict_table
from xapps.slice_bandwidth.objective import (
    TERM_LIMIT,
    cost_table,
    evaluate,
    limits_of,
    moved_slots,
    priced_table,
)  # fmt: skip
from xapps.slice_bandwidth.policy import SlicePolicy

BY_HAND = {
    "control": {"alpha": 0.5, "beta": 0.25, "gamma": 0.25, "d_max_ms": 50, "j_max_ms": 10, "b_min_mbps": 10_000},
    "protection": {"alpha": 2 / 3, "beta": 1 / 3, "gamma": 0, "d_max_ms": 5, "j_max_ms": 1, "b_min_mbps": 10_000},
    "monitoring": {"alpha": 0.2, "beta": 0.2, "gamma": 0.4, "d_max_ms": 100, "j_max_ms": 30, "b_min_mbps": 5_000},
}
GOT = Prediction(np.array([25.0, 6.0, 10.0]), np.array([5.0, 0.5, 33.0]), np.zeros(3), np.zeros(3))
NOTHING = Prediction(*np.zeros((4, 3)))
SLOTS = np.array([4, 10, 6])


def _chosen(prediction, rows):
    return Prediction(*(value[rows] for value in vars(prediction).values()))


def test_evaluate_literal_form_by_hand():
    got = evaluate(GOT, SLOTS, limits_of(SlicePolicy.model_validate(BY_HAND)))
    expected = [
        [0.5 * 25 / 50, 0.25 * 5 / 10, 0.25 * 20_000 / 10_000],
        [2 / 3 * 6 / 5, 1 / 3 * 0.5, 0.0],
        [0.25 * 10 / 100, 0.25 * 33 / 30, 0.5 * 30_000 / 5_000],  # weights 0.2, 0.2, 0.4 over their sum
    ]
    assert got.terms == pytest.approx(np.array(expected))
    assert float(got.total) == pytest.approx(np.sum(expected))
    assert got.violations.tolist() == [[False, False, False], [True, False, False], [False, True, False]]
    assert int(got.violation_count) == 2


def test_evaluate_shortfall_form_turns_the_third_term_over():
    limits = limits_of(SlicePolicy.model_validate({**BY_HAND, "third_term": "shortfall"}))
    third = evaluate(GOT, SLOTS, limits).terms[:, 2]
    assert third == pytest.approx([0.25 / 2, 0.0, 0.5 / 6])


def test_evaluate_bandwidth_below_the_minimum_is_a_violation_in_both_forms():
    for form in ("literal", "shortfall"):
        limits = limits_of(SlicePolicy.model_validate({**BY_HAND, "third_term": form}))
        got = evaluate(NOTHING, np.array([1, 10, 1]), limits)
        assert got.violations[:, 2].tolist() == [True, False, False]


def test_evaluate_a_period_that_loses_traffic_breaks_d_max_and_no_term():
    limits = limits_of(SlicePolicy.model_validate(BY_HAND))
    kept, lossy = (evaluate(replace(GOT, lost_mbit=np.array([0.0, 0.0, lost])), SLOTS, limits) for lost in (0.0, 0.1))
    assert lossy.terms.tolist() == kept.terms.tolist()
    assert (lossy.violations ^ kept.violations).tolist() == [[False] * 3, [False] * 3, [True, False, False]]


def test_penalty_adds_the_price_of_each_broken_limit():
    limits = limits_of(SlicePolicy.model_validate(BY_HAND))
    got = evaluate(GOT, SLOTS, limits)
    assert float(got.penalty(limits)) == pytest.approx(5.0 + 1.0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e5), min_size=3, max_size=3), st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_cost_table_sums_to_the_whole_objective(load: list[float], slots: list[int]):
    limits = limits_of(SlicePolicy())
    prediction = predict_table(np.array(load), np.zeros(3), 0.1, LinkModel())
    _, cost = cost_table(prediction, limits)
    rows = (slots, range(3))
    whole = evaluate(_chosen(prediction, rows), np.array(slots), limits)
    assert cost[rows].sum() == pytest.approx(float(whole.total) + float(whole.penalty(limits)))


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [([5, 10, 5], [5, 10, 5], 0), ([5, 10, 5], [7, 8, 5], 2), ([5, 10, 5], [2, 4, 1], 13), ([1, 2, 1], [4, 2, 3], 5)],
    ids=["none", "exchange", "only given up", "only gained"],
)
def test_moved_slots_by_hand(before: list[int], after: list[int], moved: int):
    assert int(moved_slots(np.array(before), np.array(after))) == moved


def test_priced_table_against_evaluate():
    generator = np.random.default_rng(6)
    for form in ("literal", "shortfall"):
        limits = limits_of(SlicePolicy.model_validate({"third_term": form, "control": {"b_min_mbps": 12_000}}))
        got = predict_table(generator.uniform(0, 9e4, (4, 3)), generator.uniform(0, 2e3, (4, 3)), 0.1, LinkModel())
        table = priced_table(got, limits)
        for node, count in ((0, 1), (1, 7), (3, 20)):
            slots = np.full(3, count)
            whole = evaluate(_chosen(got, (node, count)), slots, limits)
            capped = np.minimum(whole.terms[:, :2], TERM_LIMIT).sum(axis=1) + whole.terms[:, 2]
            broken = whole.violations.sum(axis=1) * limits.violation_cost
            assert table[node, count] == pytest.approx(capped + broken)
