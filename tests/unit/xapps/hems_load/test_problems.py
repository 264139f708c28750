"""From state to problems: EV stays, comfort, prices."""

import numpy as np
import pytest

from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.problems import PRICE_GAP, pose_fleet


def test_ev_stay_ends_before_the_announced_departure_and_asks_for_the_target(make_state):
    state = make_state(1, ev_departure_h=2.1, ev_soc=0.5, ev_target_soc=0.8)
    problem = pose_fleet(state, HemsPolicy()).homes[0]
    assert problem.ev_here.sum() == 8
    assert problem.ev_floor_kwh == pytest.approx(0.4 * 50)
    assert problem.ev_target_kwh[6] == 0
    assert problem.ev_target_kwh[7:] == pytest.approx(0.8 * 50)


def test_ev_below_the_v2g_floor_may_not_fall_further(make_state):
    problem = pose_fleet(make_state(1, ev_soc=0.2), HemsPolicy(v2g_floor_soc=0.4)).homes[0]
    assert problem.ev_floor_kwh[0] == pytest.approx(0.2 * 50)


def test_ev_away_has_neither_power_nor_floor(make_state):
    problem = pose_fleet(make_state(1, ev_connected=0.0, ev_soc=0.0, ev_target_soc=0.0), HemsPolicy()).homes[0]
    assert not problem.ev_here.any()
    assert not problem.ev_floor_kwh.any()
    assert not problem.ev_target_kwh.any()
    assert problem.ev[0] == 0


def test_ev_stay_beyond_the_horizon_keeps_time_to_charge_later(make_state):
    state = make_state(1, ev_departure_h=30.0, ev_max_kw=2.0, ev_soc=0.45, ev_target_soc=0.9)
    problem = pose_fleet(state, HemsPolicy()).homes[0]
    assert problem.ev_here.all()
    assert problem.ev_target_kwh[-1] == pytest.approx(0.9 * 50 - 6 * 0.9 * 2 * 0.94)


def test_inverted_prices_are_pulled_apart(make_state):
    problem = pose_fleet(make_state(1, buy=0.1, sell=0.2), HemsPolicy()).homes[0]
    assert (problem.buy - problem.sell >= PRICE_GAP - 1e-12).all()


def test_homes_view_the_price_differently_within_the_spread_and_alike_in_the_next_plan(make_state):
    state, policy = make_state(5, buy=0.3), HemsPolicy(spread_eur_per_kwh=0.02)
    now = np.array([home.buy for home in pose_fleet(state, policy).homes])
    assert np.abs(now - 0.3).max() <= 0.02 + 2e-3
    assert now.std(axis=0).min() > 1e-3
    later = make_state(5, buy=0.3, time_ns=state.source_time_ns + 900 * 10**9)
    shifted = np.array([home.buy for home in pose_fleet(later, policy).homes])
    np.testing.assert_allclose(shifted[:, :-1], now[:, 1:], atol=1e-4)
    same = np.array([home.buy for home in pose_fleet(state, HemsPolicy(spread_eur_per_kwh=0)).homes])
    assert np.ptp(same, axis=0).max() == 0


def test_empty_home_may_cool_by_the_setback(make_state):
    state = make_state(1)
    state.horizon.occupied[:, 10:20] = 0
    low = pose_fleet(state, HemsPolicy(setback_k=2.0)).homes[0].low_c
    np.testing.assert_allclose(low[9] - low[10], 2.0)
    assert low[0] >= 20.0
