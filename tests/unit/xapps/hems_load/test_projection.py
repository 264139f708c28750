"""No set-point leaves the app that is not finite or not safe, whatever came before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.projection import faults_of, project
from xapps.hems_load.tracking import SetPoints, must_charge

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-20, 20)
unit = st.floats(0, 1)
NO_JOBS = np.zeros(0, dtype=bool)


def limits(number):
    """The last three fields of SetPoints."""
    return np.full(number, 50.0), np.full(number, 50.0), NO_JOBS


def changed_homes(result):
    return np.logical_or.reduce(list(result.changed.values()))


@given(st.lists(numbers, min_size=5, max_size=5), unit, unit, unit, st.floats(10, 32), st.floats(0, 20), st.booleans())
@settings(max_examples=200, deadline=None)
def test_projection_gives_finite_set_points_within_every_device(
    make_state, raw, soc, ev_soc, target, indoor, hours, away
):
    state = make_state(
        1, battery_soc=soc, ev_soc=ev_soc, ev_target_soc=target, indoor_c=indoor, ev_departure_h=hours,
        ev_connected=0.0 if away else 1.0,
    )  # fmt: skip
    policy = HemsPolicy()
    points = project(state, SetPoints(*(np.array([value]) for value in raw), run=NO_JOBS), policy).points
    battery, ev, hvac, limit = (
        float(v[0]) for v in (points.battery_kw, points.ev_kw, points.hvac_kw, points.pv_limit_kw)
    )
    assert np.isfinite([battery, ev, hvac, limit]).all()
    assert -5 <= battery <= 5
    assert -soc * 10 * 0.95 * 12 - 1e-9 <= battery
    assert -10 <= ev <= 11
    assert 0 <= hvac <= 4
    assert 0 <= limit <= 100
    assert 0 <= points.wind_limit_kw[0] <= 100
    assert not faults_of(state, points).any()
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


def test_projection_leaves_safe_set_points_alone(make_state):
    state = make_state(3)
    wanted = SetPoints(np.array([1.0, -2, 0]), np.array([3.0, 0, -4]), np.array([0.5, 1, 2]), *limits(3))
    result = project(state, wanted, HemsPolicy())
    np.testing.assert_array_equal(result.points.ev_kw, wanted.ev_kw)
    np.testing.assert_array_equal(result.points.battery_kw, wanted.battery_kw)
    assert not changed_homes(result).any()


def test_projection_car_that_must_charge_charges(make_state):
    state = make_state(1, ev_soc=0.4, ev_target_soc=0.8, ev_departure_h=1.5)
    result = project(state, SetPoints(*(np.zeros(1) for _ in range(3)), *limits(1)), HemsPolicy())
    assert result.points.ev_kw[0] == 11.0
    assert result.changed["EV_GUARD"][0]


def test_projection_names_what_was_not_finite(make_state):
    state = make_state(2)
    wanted = SetPoints(np.array([np.nan, 1.0]), np.zeros(2), np.zeros(2), *limits(2))
    result = project(state, wanted, HemsPolicy())
    np.testing.assert_array_equal(result.changed["NOT_FINITE"], [True, False])
    assert result.points.battery_kw[0] == 0


@pytest.mark.parametrize(
    ("job", "asked", "given"),
    [
        ({"running": True}, False, True),
        ({"running": True, "interruptible": True}, False, False),
        ({"closes_h": 1.52}, False, True),
        ({"opens_h": 0.5}, True, False),
        ({"left_h": 0.0}, True, False),
        ({}, True, True),
    ],
    ids=["in one piece", "interruptible", "last moment", "not open", "no job", "as asked"],
)
def test_projection_keeps_appliances_to_their_windows(make_state, make_jobs, job, asked, given):
    state = make_state(1, jobs=make_jobs(**job))
    nothing = np.zeros(1)
    wanted = SetPoints(nothing, nothing, nothing + 0.5, nothing + 100, nothing + 100, np.array([asked]))
    result = project(state, wanted, HemsPolicy())
    assert result.points.run[0] == given
    assert result.changed["APPLIANCE_GUARD"][0] == (asked != given)


@pytest.mark.parametrize("name", ["battery_kw", "ev_kw", "hvac_kw", "pv_limit_kw", "wind_limit_kw"])
@pytest.mark.parametrize("value", [np.nan, 1e3, -1e3])
def test_projection_check_finds_what_a_projection_would_mend(make_state, name, value):
    state, good = make_state(2), project(make_state(2), SetPoints(*np.zeros((3, 2)), *limits(2)), HemsPolicy()).points
    assert not faults_of(state, good).any()
    broken = replace(good, **{name: np.array([value, getattr(good, name)[1]])})
    np.testing.assert_array_equal(faults_of(state, broken), [True, False])
