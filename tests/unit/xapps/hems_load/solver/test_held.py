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
    wanted = RNG.normal(size=SHAPE)
    held.follow(wanted, 0.25)
    np.testing.assert_allclose(held.price, 0.75 * HELD.price + 0.25 * wanted)


def test_imports_are_even_on_occasions_and_as_the_last_time_elsewhere():
    free, pushed = RNG.normal(2, 2, SHAPE), RNG.normal(1, 2, SHAPE)
    occasion, part = np.array([-1, 0, 0, -1, 1, 1]), np.array([0.9, 0.5, 0.0, 0.9, 1.0, 0.25])
    near = HELD.imports_kw(free, pushed, occasion, part)
    np.testing.assert_allclose(near[:, [0, 3]], (free - HELD.given_kw)[:, [0, 3]])
    most, least = np.maximum(free, 0), np.minimum(np.maximum(pushed, 0), np.maximum(free, 0))
    even = most - part * (most - least)
    np.testing.assert_allclose(near[:, occasion >= 0], even[:, occasion >= 0])
    np.testing.assert_allclose(near[:, 4], least[:, 4])


def test_prices_pull_to_where_the_answer_is_asked():
    price, curvature, near = RNG.normal(0.1, 0.1, 6), np.full(6, 0.01), RNG.normal(size=SHAPE)
    expected = np.maximum(price + HELD.price, 0) - curvature * np.maximum(near, 0)
    np.testing.assert_allclose(HELD.prices(price, curvature, near), expected)
