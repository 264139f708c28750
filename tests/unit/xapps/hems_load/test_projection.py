"""No set-point leaves the app that is not finite or not safe, whatever came before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.projection import project
from xapps.hems_load.tracking import SetPoints, must_charge

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-20, 20)
unit = st.floats(0, 1)


def changed_homes(result):
    return np.logical_or.reduce(list(result.changed.values()))


@given(st.lists(numbers, min_size=4, max_size=4), unit, unit, unit, st.floats(10, 32), st.floats(0, 20), st.booleans())
@settings(max_examples=200, deadline=None)
def test_projection_gives_finite_set_points_within_every_device(
    make_state_once, raw, soc, ev_soc, target, indoor, hours, away
):
    state = make_state_once(
        1, battery_soc=soc, ev_soc=ev_soc, ev_target_soc=target, indoor_c=indoor, ev_departure_h=hours,
        ev_connected=0.0 if away else 1.0,
    )  # fmt: skip
    policy = HemsPolicy()
    points = project(state, SetPoints(*(np.array([value]) for value in raw)), policy).points
    battery, ev, hvac, limit = (
        float(v[0]) for v in (points.battery_kw, points.ev_kw, points.hvac_kw, points.pv_limit_kw)
    )
    assert np.isfinite([battery, ev, hvac, limit]).all()
    assert -5 <= battery <= 5
    assert -soc * 10 * 0.95 * 12 - 1e-9 <= battery
    assert -10 <= ev <= 11
    assert 0 <= hvac <= 4
    assert 0 <= limit <= 100
    if away:
        assert ev == 0
    if ev < 0:
        assert ev_soc > policy.v2g_floor_soc
        assert not must_charge(state)[0]
    if indoor > 25:
        assert hvac == 0
    if indoor < 19:
        assert hvac == 4
    again = project(state, points, policy)
    assert not changed_homes(again).any()


@pytest.fixture(scope="module")
def make_state_once(request):
    """The function behind `make_state`: hypothesis needs a fixture that outlives one example."""
    from dataclasses import fields

    from xapps.hems_load.model import Homes
    from xapps.hems_load.state import Horizon, State

    conftest = request.config.pluginmanager.get_plugin(str(request.path.parent / "conftest.py"))

    def make(number, **changes):
        static = conftest.spread(conftest.STATIC, number, changes)
        homes = Homes(("home-0",), *(static[field.name] for field in fields(Homes)[1:]))
        ones = np.ones((number, 4))
        horizon = Horizon(ones, ones, ones, ones[0], ones[0], ones[0])
        report = conftest.spread(conftest.REPORT, number, changes)
        return State("node", conftest.NOW_NS, homes, report, horizon, np.zeros(number), None, None, 0)

    return make


def test_projection_leaves_safe_set_points_alone(make_state):
    state = make_state(3)
    wanted = SetPoints(np.array([1.0, -2, 0]), np.array([3.0, 0, -4]), np.array([0.5, 1, 2]), np.full(3, 50.0))
    result = project(state, wanted, HemsPolicy())
    np.testing.assert_array_equal(result.points.ev_kw, wanted.ev_kw)
    np.testing.assert_array_equal(result.points.battery_kw, wanted.battery_kw)
    assert not changed_homes(result).any()


def test_projection_car_that_must_charge_charges(make_state):
    state = make_state(1, ev_soc=0.4, ev_target_soc=0.8, ev_departure_h=1.5)
    result = project(state, SetPoints(*(np.zeros(1) for _ in range(3)), np.full(1, 100.0)), HemsPolicy())
    assert result.points.ev_kw[0] == 11.0
    assert result.changed["EV_GUARD"][0]


def test_projection_names_what_was_not_finite(make_state):
    state = make_state(2)
    wanted = SetPoints(np.array([np.nan, 1.0]), np.zeros(2), np.zeros(2), np.full(2, 100.0))
    result = project(state, wanted, HemsPolicy())
    np.testing.assert_array_equal(result.changed["NOT_FINITE"], [True, False])
    assert result.points.battery_kw[0] == 0
