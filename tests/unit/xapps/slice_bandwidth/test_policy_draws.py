"""Drawn policies: valid bounds, the default among them, and how far each kind of draw goes."""

import numpy as np
import pytest

from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.policy_draws import default_policies, draw_policies
from xapps.slice_bandwidth.traffic import Draws


@pytest.mark.parametrize("draws", list(Draws))
def test_draw_policies_leave_a_split_with_and_without_an_alarm(draws):
    made = draw_policies(np.random.default_rng(1), 300, draws)
    assert np.allclose(made.limits.weights.sum(axis=-1), 1)
    for bounds in (made.quiet, made.alarmed):
        assert (bounds.low.sum(axis=-1) <= 20).all()
        assert bounds.inside.any(axis=-1).all()


def test_draw_policies_unseen_ones_lie_outside_of_what_training_draws():
    default = limits_of(SlicePolicy()).d_max_ms
    factors = {
        draws: np.abs(np.log(draw_policies(np.random.default_rng(2), 400, draws).limits.d_max_ms / default))
        for draws in Draws
    }
    widest = {draws: factor.max() for draws, factor in factors.items()}
    assert widest[Draws.KNOWN] < widest[Draws.WIDE] < widest[Draws.UNSEEN]
    assert (factors[Draws.WIDE] == 0).all(axis=1).any()
    assert not (factors[Draws.UNSEEN] == 0).all(axis=1).any()


def test_default_policies_are_the_default():
    assert np.array_equal(default_policies(3).limits.weights[2], limits_of(SlicePolicy()).weights)
