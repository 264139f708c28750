"""What is held from one capped cycle to the next, against plain numpy."""

import numpy as np

from xapps.hems_load.solver.held import Held

RNG = np.random.default_rng(3)
SHAPE = (5, 6)
HELD = Held(RNG.normal(size=SHAPE), RNG.normal(size=SHAPE))


def test_later_shifts_both_series_and_starts_from_nothing_for_other_homes():
    later = Held.later(HELD, SHAPE, 2)
    for now, before in ((later.price, HELD.price), (later.given_kw, HELD.given_kw)):
        np.testing.assert_array_equal(now[:, :4], before[:, 2:])
        np.testing.assert_array_equal(now[:, 4:], before[:, [5, 5]])
    for none in (Held.later(None, SHAPE, 1), Held.later(HELD, (4, 6), 1)):
        assert not none.price.any()
        assert not none.given_kw.any()


def test_follow_goes_part_of_the_way():
    held = Held.later(HELD, SHAPE, 0)
    wanted, occasion = RNG.normal(size=(SHAPE[0], 2)), np.array([-1, 0, 0, -1, 1, 1])
    held.follow(wanted, occasion, 0.25)
    goal = np.where(occasion >= 0, wanted[:, occasion], 0.0)
    np.testing.assert_allclose(held.price, 0.75 * HELD.price + 0.25 * goal)


def test_prices_pull_to_even_imports_on_occasions_and_as_the_last_time_elsewhere():
    free, pushed = RNG.normal(2, 2, SHAPE), RNG.normal(1, 2, SHAPE)
    occasion, part = np.array([-1, 0, 0, -1, 1, 1]), np.array([0.9, 0.5, 0.0, 0.9, 1.0, 0.25])
    price, curvature = RNG.normal(0.1, 0.1, 6), np.full(6, 0.01)
    own = HELD.even_prices(price, curvature, free, pushed, np.where(occasion >= 0, part, -1.0))
    most, least = np.maximum(free, 0), np.minimum(np.maximum(pushed, 0), np.maximum(free, 0))
    near = np.where(occasion >= 0, most - part * (most - least), free - HELD.given_kw)
    np.testing.assert_allclose(near[:, 4], least[:, 4])
    np.testing.assert_allclose(own, HELD.prices(price, curvature, near))


def test_prices_pull_to_where_the_answer_is_asked():
    price, curvature, near = RNG.normal(0.1, 0.1, 6), np.full(6, 0.01), RNG.normal(size=SHAPE)
    expected = np.maximum(price + HELD.price, 0) - curvature * np.maximum(near, 0)
    np.testing.assert_allclose(HELD.prices(price, curvature, near), expected)
