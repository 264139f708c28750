"""From state to the fleet's problem: EV stays, comfort, prices, appliances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import EV_MARGIN_KWH, PRICE_GAP, pose_fleet, slots_of

POLICY = HemsPolicy()


def test_ev_stay_ends_before_the_announced_departure_and_asks_for_the_target(make_state):
    ev = pose_fleet(make_state(1, ev_departure_h=2.1, ev_soc=0.5, ev_target_soc=0.8), POLICY).ev
    assert ev.here.sum() == 8
    assert ev.floor_kwh[0, 0] == pytest.approx(0.4 * 50)
    assert np.flatnonzero(ev.target_kwh[0]).tolist() == [7]
    assert ev.target_kwh[0, 7] == pytest.approx(0.8 * 50 + EV_MARGIN_KWH)


def test_ev_below_the_v2g_floor_may_not_fall_further_and_the_higher_floor_counts(make_state):
    assert pose_fleet(make_state(1, ev_soc=0.2), POLICY).ev.floor_kwh[0, 0] == pytest.approx(0.2 * 50)
    owners = pose_fleet(make_state(1, ev_soc=0.9, ev_floor_soc=0.7), POLICY).ev
    assert owners.floor_kwh[0, 0] == pytest.approx(0.7 * 50)


def test_ev_away_is_no_device_of_the_plan(make_state):
    assert pose_fleet(make_state(1, ev_connected=0.0, ev_soc=0.0, ev_target_soc=0.0), POLICY).ev is None
    ev = pose_fleet(make_state(2, ev_connected=np.array([0.0, 1.0])), POLICY).ev
    np.testing.assert_array_equal(ev.capacity_kwh > 0, [False, True])
    assert not ev.here[0].any()


def test_ev_stay_beyond_the_horizon_keeps_time_to_charge_later(make_state):
    ev = pose_fleet(make_state(1, ev_departure_h=30.0, ev_max_kw=2.0, ev_soc=0.45, ev_target_soc=0.9), POLICY).ev
    assert ev.here.all()
    assert ev.target_kwh[0, -1] == pytest.approx(0.9 * 50 + EV_MARGIN_KWH - 6 * 0.9 * 2 * 0.94)


def test_inverted_prices_are_pulled_apart(make_state):
    meter = pose_fleet(make_state(1, buy=0.1, sell=0.2), POLICY).meter
    assert (meter.buy - meter.sell >= PRICE_GAP - 1e-12).all()


def test_carbon_price_is_part_of_the_tariff(make_state):
    state = make_state(1, buy=0.3)
    without, with_price = (pose_fleet(state, HemsPolicy(carbon_eur_per_t=price)).meter.buy for price in (0, 100))
    np.testing.assert_allclose(with_price - without, 100 * 400 / 1e6)


def test_homes_view_the_price_differently_within_the_spread_and_alike_in_the_next_plan(make_state):
    state, policy = make_state(5, buy=0.3), HemsPolicy(spread_eur_per_kwh=0.02)
    now = pose_fleet(state, policy).meter.buy
    assert np.abs(now - 0.3).max() <= 0.02 + 2e-3
    assert now.std(axis=0).min() > 1e-3
    later = make_state(5, buy=0.3, time_ns=state.source_time_ns + 900 * 10**9)
    np.testing.assert_allclose(pose_fleet(later, policy).meter.buy[:, :-1], now[:, 1:], atol=1e-4)
    assert np.ptp(pose_fleet(state, HemsPolicy(spread_eur_per_kwh=0)).meter.buy, axis=0).max() == 0


def test_empty_home_may_leave_its_band_by_the_smaller_setback(make_state):
    state = make_state(2, setback_k=np.array([1.0, 5.0]))
    state.horizon.occupied[:, 10:20] = 0
    pump = pose_fleet(state, HemsPolicy(setback_k=2.0)).heat_pump
    np.testing.assert_allclose(pump.low_c[:, 9] - pump.low_c[:, 10], [1.0, 2.0])
    np.testing.assert_allclose(pump.high_c[:, 10] - pump.high_c[:, 9], [1.0, 2.0])
    assert pump.low_c[0, 0] > 20.0
    assert pump.high_c[0, 0] < 24.0


def test_export_limits_are_the_contract_or_nothing(make_state):
    state = make_state(1, export_limit_kw=3.0, connection_kw=9.0)
    assert pose_fleet(state, POLICY).meter.export_limit_kw.max() == 3.0
    assert pose_fleet(state, HemsPolicy(export_allowed=False)).meter.export_limit_kw.max() == 0.0
    assert pose_fleet(state, POLICY).meter.import_limit_kw[0] == 9.0


def test_reserve_keeps_energy_in_the_batteries_by_their_power(make_state):
    state = make_state(2, battery_max_kw=np.array([5.0, 15.0]), battery_kwh=40.0)
    floor = pose_fleet(state, HemsPolicy(reserve_kw=8.0, reserve_hold_min=30)).battery.floor_kwh
    np.testing.assert_allclose(floor, [8 * 0.25 * 0.5 / 0.95, 8 * 0.75 * 0.5 / 0.95])


def test_appliances_of_both_kinds_find_their_slots_and_windows(make_state, make_jobs):
    jobs = make_jobs(
        4, home=[1, 0, 1, 1], interruptible=[True, False, True, False], left_h=[2.0, 1.5, 1.0, 0.5],
        opens_h=[0.0, 1.1, 3.0, 0.0], closes_h=[4.0, 6.0, 90.0, 0.2],
    )  # fmt: skip
    problem, slots = pose_fleet(make_state(2, jobs=jobs), POLICY), slots_of(jobs)
    assert slots.interruptible.tolist() == [0, -1, 1, -1]
    assert slots.shiftable.tolist() == [-1, 0, -1, 0]
    pieces, runs = problem.appliances, problem.shiftable
    assert pieces.energy_kwh[1].tolist() == [4.0, 0.0]  # the second can be done wholly after the horizon
    assert (pieces.first[1, 0], pieces.last[1, 0]) == (0, 15)
    assert (runs.first[0, 0], runs.last[0, 0], runs.duration_h[0, 0]) == (5, 18, 1.5)
    assert (runs.first[1, 0], runs.last[1, 0]) == (0, 0)  # too late already: at once


def test_run_under_way_is_load_that_cannot_be_moved(make_state, make_jobs):
    state = make_state(1, jobs=make_jobs(left_h=0.6, running=True, power_kw=2.0), load=0.5)
    problem = pose_fleet(state, POLICY)
    assert problem.shiftable is None
    np.testing.assert_allclose(problem.meter.load_kw[0, :4], [2.5, 2.5, 0.5 + 2 * 0.4, 0.5])
    assert state.horizon.load_kw.max() == 0.5


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 6), st.floats(0, 30), st.floats(0, 40)), max_size=12
    )
)
@settings(max_examples=100, deadline=None)
def test_appliance_windows_always_lie_in_the_horizon(make_state, make_jobs, rows):
    if not rows:
        return
    home, interruptible, left, opens, closes = (list(column) for column in zip(*rows, strict=True))
    jobs = make_jobs(
        len(rows), home=home, interruptible=interruptible, left_h=left, opens_h=opens,
        closes_h=np.maximum(closes, opens),
    )  # fmt: skip
    problem = pose_fleet(make_state(4, jobs=jobs), POLICY)
    if problem.appliances is not None:
        part = problem.appliances
        has = part.energy_kwh > 0
        assert ((part.first >= 0) & (part.first <= part.last) & (part.last < 96))[has].all()
        room = (part.last - part.first + 1) * 0.25 * part.power_kw
        assert (part.energy_kwh <= room + 1e-9)[has].all()
    if problem.shiftable is not None:
        runs = problem.shiftable
        has = runs.power_kw > 0
        assert ((runs.first >= 0) & (runs.first <= runs.last))[has].all()
        assert (runs.last * 0.25 + runs.duration_h <= 24 + 1e-6)[has].all()
