"""Plans under a cap on all homes and caps on groups: every cap is kept, and nobody outside a group pays for it."""

from dataclasses import fields, replace

import numpy as np
import pytest

from xapps.hems_load.capped_plans import Coordination, joined, plan_under_caps, with_rows
from xapps.hems_load.caps import Cap
from xapps.hems_load.horizon import Steps
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import pose_fleet
from xapps.hems_load.solver import Effort, coordinate_fleet, solve_fleet

HOMES, T = 12, 48
EFFORT = Effort(threads=1)
HOW = Coordination(6, lambda _: True, EFFORT)
ALL = np.ones(HOMES, dtype=bool)
LEFT, INNER = np.arange(HOMES) < 6, np.arange(HOMES) < 3
CROSSING = (np.arange(HOMES) >= 4) & (np.arange(HOMES) < 8)


@pytest.fixture(scope="module")
def problem(make_state):
    state = make_state(
        HOMES, grid=Steps(0, T), buy=np.where(np.arange(T) < 20, 0.2, 0.4), pv=0.0, load=1.0, ev_departure_h=11.0,
        ev_soc=np.linspace(0.3, 0.6, HOMES), battery_soc=np.linspace(0.2, 0.8, HOMES),
    )  # fmt: skip
    return pose_fleet(state, HemsPolicy())


@pytest.fixture(scope="module")
def free(problem):
    return solve_fleet(problem, effort=EFFORT)[0]


def cap(name, rows, kw):
    return Cap(name, rows, np.full(T, kw), 0.5)


def group_peak(plan, rows):
    return float(plan.net_kw[rows].sum(axis=0).max())


def test_plan_without_binding_caps_is_the_free_one(problem, free):
    plan, _, price = plan_under_caps(problem, [cap("left", LEFT, 1e3), cap("", ALL, np.inf)], None, HOW)
    np.testing.assert_array_equal(plan.net_kw, free.net_kw)
    assert not price.any()


def test_plans_made_elsewhere_keep_the_caps_of_groups_too(problem):
    def elsewhere(whole, cap_kw, options):
        return coordinate_fleet(whole, cap_kw, effort=EFFORT, **options)[0]

    caps = [cap("left", LEFT, 20.0), cap("", ALL, 45.0)]
    here, warm, _ = plan_under_caps(problem, caps, None, HOW)
    there, none, price = plan_under_caps(problem, caps, None, replace(HOW, elsewhere=elsewhere))
    np.testing.assert_array_equal(there.net_kw, here.net_kw)
    assert group_peak(there, LEFT) <= 20 * 1.001
    assert price[LEFT].max() > price[~LEFT].max()
    assert warm is not None
    assert none is None
    alone, again, _ = plan_under_caps(problem, caps, None, replace(HOW, elsewhere=lambda *_: None))
    np.testing.assert_array_equal(alone.net_kw, here.net_kw)
    assert again is not None


def test_plans_of_parts_joined_are_the_plan_of_all_homes_in_their_places(problem, free):
    rows = [np.arange(first, HOMES, 3) for first in range(3)]
    parts = [solve_fleet(problem.take(own), effort=EFFORT)[0] for own in rows]
    whole = joined(parts, rows)
    for own, part in zip(rows, parts, strict=True):
        np.testing.assert_array_equal(whole.net_kw[own], part.net_kw)
        np.testing.assert_array_equal(whole.costs.energy[own], part.costs.energy)
        np.testing.assert_array_equal(whole.relaxed["EV_TARGET_RELAXED"][own], part.relaxed["EV_TARGET_RELAXED"])
    for field in fields(whole):
        if isinstance(getattr(free, field.name), np.ndarray):
            assert getattr(whole, field.name).shape == getattr(free, field.name).shape
    np.testing.assert_allclose(whole.costs.total, free.costs.total, atol=EFFORT.gap_eur)


def test_group_keeps_its_cap_and_the_others_their_plans(problem, free):
    assert group_peak(free, LEFT) > 30
    plan, _, price = plan_under_caps(problem, [cap("left", LEFT, 20.0), cap("", ALL, np.inf)], None, HOW)
    assert group_peak(plan, LEFT) <= 20 * 1.001
    np.testing.assert_array_equal(plan.net_kw[~LEFT], free.net_kw[~LEFT])
    assert price.shape == (HOMES, T)
    assert price[LEFT].max() > 0
    assert not price[~LEFT].any()
    assert plan.costs.total.sum() >= free.costs.total.sum() - HOMES * EFFORT.gap_eur


def test_nested_groups_and_all_homes_keep_all_caps_at_once(problem, free):
    caps = [cap("inner", INNER, 14.0), cap("left", LEFT, 20.0), cap("", ALL, 45.0)]
    assert all(one.is_over(free.net_kw).any() for one in caps)
    plan, _, _ = plan_under_caps(problem, caps, None, HOW)
    for one in caps:
        assert float(one.over_kw(plan.net_kw).max()) <= 2e-3 * one.kw[0]


def test_groups_that_share_some_homes_keep_both_caps_where_they_can(problem, free):
    caps = [cap("crossing", CROSSING, 18.0), cap("left", LEFT, 20.0), cap("", ALL, np.inf)]
    assert all(one.is_over(free.net_kw).any() for one in caps[:2])
    plan, _, _ = plan_under_caps(problem, caps, None, HOW)
    for one in caps[:2]:
        assert float(one.over_kw(plan.net_kw).max()) <= 2e-3 * one.kw[0]


def test_costs_of_a_group_are_told_at_the_tariff_and_not_at_the_price_of_the_cap(problem):
    plan, _, _ = plan_under_caps(problem, [cap("left", LEFT, 20.0), cap("", ALL, 45.0)], None, HOW)
    meter, hours = problem.meter, problem.hours
    paid = np.where(plan.net_kw > 0, meter.buy, np.minimum(meter.sell, meter.buy)) * plan.net_kw
    np.testing.assert_allclose(plan.costs.energy, paid @ hours, atol=1e-3)


def test_with_rows_takes_every_column_of_the_fresh_homes(problem, free):
    rows = np.array([2, 5])
    fresh, _ = solve_fleet(problem.take(rows), effort=EFFORT)
    doubled = type(fresh)(**{f.name: getattr(fresh, f.name) for f in fields(fresh)})
    plan = with_rows(free, rows, doubled)
    np.testing.assert_array_equal(plan.net_kw[rows], fresh.net_kw)
    np.testing.assert_array_equal(plan.costs.wear[rows], fresh.costs.wear)
    others = np.setdiff1d(np.arange(HOMES), rows)
    np.testing.assert_array_equal(plan.ev_kw[others], free.ev_kw[others])
