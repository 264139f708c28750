"""The master programme on answers small enough to do by hand."""

import numpy as np
import pytest

from xapps.hems_load.solver.master import MISS_EUR_PER_KWH, Answers, mix_answers

HOURS = np.array([0.5])


def two_teams(able=1.0):
    """Two homes that import 4 kW or nothing in the one capped step; giving costs the first 0.1 EUR, the other 0.3."""
    net = np.array([[[4.0], [4.0]], [[0.0], [0.0]]])
    share = np.array([[[0.0], [0.0]], [[1.0], [1.0]]]) * able
    return Answers(net, np.array([[0.0, 0.0], [0.1, 0.3]]), share, np.full((2, 1), able))


def test_mix_answers_without_evenness_takes_the_cheapest():
    mix = mix_answers(two_teams(), np.array([6.0]), HOURS, 0.0)
    assert mix.weights == pytest.approx(np.array([[0.5, 1.0], [0.5, 0.0]]))
    assert mix.cost_eur == pytest.approx(0.05)
    assert mix.price == pytest.approx(0.1 / (4 * 0.5))
    assert not mix.share_price.any()


def test_mix_answers_with_dear_evenness_takes_the_same_from_both():
    mix = mix_answers(two_teams(), np.array([6.0]), HOURS, 100.0)
    assert mix.weights == pytest.approx(np.full((2, 2), [[0.75], [0.25]]), abs=0.02)
    assert mix.share_price[1, 0] > 0 > mix.share_price[0, 0]


def test_mix_answers_impossible_cap_is_missed_at_its_price():
    mix = mix_answers(two_teams(), np.array([-1.0]), HOURS, 0.0)
    assert mix.weights[1] == pytest.approx([1.0, 1.0])
    assert mix.price == pytest.approx(MISS_EUR_PER_KWH)


def test_mix_answers_step_that_never_reaches_its_cap_changes_nothing():
    one = two_teams()
    net = np.concatenate([one.net_kw, one.net_kw], axis=2)
    mix = mix_answers(Answers(net, one.cost_eur, one.share, one.able), np.array([8.0, 6.0]), np.full(2, 0.5), 1.0)
    alone = mix_answers(one, np.array([6.0]), HOURS, 1.0)
    np.testing.assert_allclose(mix.weights, alone.weights)
    np.testing.assert_allclose(mix.price, [0.0, alone.price[0]])


def test_mix_answers_teams_that_cannot_give_leave_the_others_shares_alone():
    able = two_teams()
    answers = Answers(able.net_kw, able.cost_eur, able.share * [[[1.0], [0.0]]], np.array([[1.0], [0.0]]))
    mix = mix_answers(answers, np.array([6.0]), HOURS, 100.0)
    assert mix.weights[:, 1] == pytest.approx([1.0, 0.0])


def test_mix_split_and_answers_joined_undo_each_other():
    both = two_teams()
    parts = [Answers(*(both.net_kw[:, [n]], both.cost_eur[:, [n]], both.share[:, [n]]), both.able[[n]]) for n in (0, 1)]
    joined = Answers.joined(parts)
    assert all(np.array_equal(getattr(joined, name), getattr(both, name)) for name in vars(both))
    first, second = mix_answers(joined, np.array([6.0]), HOURS, 1.0).split([1, 1])
    assert first.weights.shape == second.weights.shape == (2, 1)
