"""Following a plan through the minutes between two plans."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapps.hems_load.model import cop_at, indoor_after
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.tracking import NO_LIMIT_KW, PlanNow, track

POLICY = HemsPolicy()


NO_JOBS = np.zeros(0, dtype=bool)


def plan(number=1, *, net=0.0, battery=0.0, ev=0.0, hvac=0.0, pv=2.0, expected=2.0, wind=0.0, run=NO_JOBS):
    values = (net, battery, ev, hvac, pv, expected, wind, wind)
    return PlanNow(*(np.full(number, float(value)) for value in values), run=run)


def points_of(state, plan_now, policy=POLICY):
    points = track(state, plan_now, policy)
    return points, points.net_kw(state)


def test_track_home_that_plans_no_exchange_balances_itself(make_state):
    state = make_state(1, inflexible_kw=1.0, pv_available_kw=3.0, ev_connected=0.0)
    points, net = points_of(state, plan(net=0.0, battery=0.5))
    assert points.battery_kw[0] == pytest.approx(2.0)
    assert net[0] == pytest.approx(0)


def test_track_planned_import_does_not_spend_the_battery_on_a_load_peak(make_state):
    state = make_state(1, inflexible_kw=4.0, pv_available_kw=0.0, ev_connected=0.0)
    points, net = points_of(state, plan(net=0.6, battery=0.0, pv=0, expected=0))
    assert points.battery_kw[0] == 0
    assert net[0] == pytest.approx(4.0)


def test_track_planned_import_takes_an_unexpected_surplus(make_state):
    state = make_state(1, inflexible_kw=0.5, pv_available_kw=3.0, ev_connected=0.0)
    points, net = points_of(state, plan(net=0.6, battery=0.0))
    assert points.battery_kw[0] == pytest.approx(2.5)
    assert net[0] == pytest.approx(0)


def test_track_planned_export_covers_an_unexpected_load(make_state):
    state = make_state(1, inflexible_kw=4.0, pv_available_kw=1.0, ev_connected=0.0)
    points, _ = points_of(state, plan(net=-1.0, battery=0.0))
    assert points.battery_kw[0] == pytest.approx(-3.0)


def test_track_curtails_only_what_the_plan_curtails(make_state):
    state = make_state(1, pv_available_kw=4.0)
    assert track(state, plan(pv=2.0, expected=2.0), POLICY).pv_limit_kw[0] == NO_LIMIT_KW
    assert track(state, plan(pv=1.0, expected=2.0), POLICY).pv_limit_kw[0] == pytest.approx(1.0)


def test_track_export_forbidden_never_exports(make_state):
    rng = np.random.default_rng(4)
    number = 200
    state = make_state(
        number, inflexible_kw=rng.uniform(0, 4, number), pv_available_kw=rng.uniform(0, 9, number),
        battery_soc=rng.uniform(0, 1, number), ev_connected=rng.integers(0, 2, number),
    )  # fmt: skip
    now = PlanNow(*(rng.uniform(low, 5, number) for low in (-5, -5, -5, 0, 0, 0, 0, 0)), run=NO_JOBS)
    _, net = points_of(state, now, HemsPolicy(export_allowed=False))
    assert net.min() >= -1e-9


def test_track_contract_limit_holds_where_devices_can_give(make_state):
    state = make_state(1, inflexible_kw=6.0, pv_available_kw=0.0, connection_kw=10.0, ev_soc=0.5)
    points, net = points_of(state, plan(net=20.0, battery=3.0, ev=11.0, hvac=4.0, pv=0, expected=0))
    assert net[0] == pytest.approx(10.0)
    assert points.battery_kw[0] == 0
    assert points.hvac_kw[0] == 4.0


def test_track_battery_stays_within_the_energy_that_is_left(make_state):
    state = make_state(1, battery_soc=0.01, inflexible_kw=5.0, pv_available_kw=0.0, ev_connected=0.0)
    points, _ = points_of(state, plan(net=0.0))
    assert points.battery_kw[0] == pytest.approx(-0.01 * 10 * 0.95 * 12)


@given(
    planned=st.floats(0, 4), indoor=st.floats(20.0, 24.0), outdoor=st.floats(-12, 25), gains=st.floats(0, 1.5),
    used=st.booleans(),
)  # fmt: skip
def test_track_used_room_stays_in_its_band_where_heat_can_keep_it(make_state, planned, indoor, outdoor, gains, used):
    """Against the model's own first-order answer a quarter of an hour later; heat that keeps the band is the plan's."""
    state = make_state(1, indoor_c=indoor, outdoor_c=outdoor, occupied=float(used), ev_connected=0.0)
    state.gains_kw[:] = gains

    def later_c(hvac_kw):
        heat = cop_at(state.homes, np.array([outdoor]))[:, 0] * hvac_kw + gains
        return indoor_after(state.homes, state.report["indoor_c"], heat, np.array([outdoor]), 900.0)[0]

    hvac = track(state, plan(hvac=planned), POLICY).hvac_kw[0]
    low, high = (20.0, 24.0) if used else (-np.inf, 25.5)
    assert later_c(hvac) >= min(low, later_c(4.0)) - 1e-9
    assert later_c(hvac) <= max(high, later_c(0.0)) + 1e-9
    if low + 0.05 <= later_c(planned) <= high - 0.05:
        assert hvac == pytest.approx(planned, abs=1e-9)


def test_track_one_room_that_reports_no_number_leaves_the_others_as_planned(make_state):
    state = make_state(3, indoor_c=np.array([21.0, np.nan, 21.0]), ev_connected=0.0)
    state.report["outdoor_c"][1] = np.nan
    np.testing.assert_allclose(track(state, plan(3, hvac=0.5), POLICY).hvac_kw, 0.5)
