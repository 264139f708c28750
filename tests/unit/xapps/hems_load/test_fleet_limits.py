"""What the homes of a node owe together: cap, ramp, reserve, and who gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ric.columns import Table
from xapps.hems_load.caps import Cap
from xapps.hems_load.fleet_limits import hold_ramp, hold_reserve, keep_fleet_limits, reserve_of, respond, shed_to_cap
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.tracking import NO_LIMIT_KW, SetPoints, must_charge

POLICY = HemsPolicy()


def cap_of(state, kw, fairness=0.5, rows=None, name=""):
    return Cap(name, np.ones(len(state.homes), dtype=bool) if rows is None else rows, kw, fairness)


def points_at(number, battery=0.0, ev=0.0, hvac=0.0, run=()):
    values = (np.full(number, float(value)) for value in (battery, ev, hvac, NO_LIMIT_KW, NO_LIMIT_KW))
    return SetPoints(*values, np.array(run, dtype=bool))


def test_shed_to_cap_takes_batteries_first_and_meets_the_cap(make_state):
    state = make_state(3, inflexible_kw=3.0, pv_available_kw=0.0, ev_departure_h=12.0)
    wanted = points_at(3, ev=5.0, hvac=1.0)
    points, given = shed_to_cap(state, wanted, cap_of(state, 20.0), POLICY)
    net = points.net_kw(state)
    assert net.sum() == pytest.approx(20.0)
    assert given.sum() == pytest.approx(7.0)
    np.testing.assert_allclose(points.ev_kw, 5.0)
    np.testing.assert_allclose(points.battery_kw, -7 / 3)


def test_shed_to_cap_spares_cars_in_a_hurry_and_cold_rooms_and_tells_what_is_missing(make_state):
    state = make_state(
        1, inflexible_kw=3.0, pv_available_kw=0.0, battery_soc=0.0, ev_departure_h=1.0, ev_soc=0.3, ev_target_soc=0.8,
        indoor_c=18.0,
    )  # fmt: skip
    assert must_charge(state)[0]
    wanted = points_at(1, ev=11.0, hvac=4.0)
    points, given = shed_to_cap(state, wanted, cap_of(state, 5.0), POLICY)
    assert points.ev_kw[0] == 11.0
    assert points.hvac_kw[0] == 4.0
    assert points.net_kw(state).sum() == pytest.approx(18.0)
    assert given[0] == 0


def test_shed_to_cap_does_nothing_below_the_cap(make_state):
    state = make_state(2, inflexible_kw=1.0, pv_available_kw=0.0)
    wanted = points_at(2, ev=1.0, hvac=1.0)
    points, given = shed_to_cap(state, wanted, cap_of(state, 100.0), POLICY)
    assert not given.any()
    np.testing.assert_array_equal(points.ev_kw, wanted.ev_kw)


def jain(share):
    return share.sum() ** 2 / (share.size * (share**2).sum())


def test_shed_to_cap_fairness_one_takes_the_same_share_from_all(make_state):
    soc = np.array([0.9, 0.0, 0.0, 0.9])
    state = make_state(4, inflexible_kw=3.0, pv_available_kw=0.0, battery_soc=soc, indoor_c=22.0, ev_departure_h=12.0)
    wanted = points_at(4, ev=6.0, hvac=2.0)
    cap = float(wanted.net_kw(state).sum()) - 15.0
    most = shed_to_cap(state, wanted, cap_of(state, -1e6), POLICY)[1]
    for fairness, least, highest in ((1.0, 0.999, 1.0), (0.0, 0.0, 0.8)):
        points, gave = shed_to_cap(state, wanted, cap_of(state, cap, fairness), POLICY)
        assert points.net_kw(state).sum() == pytest.approx(cap)
        assert least <= jain(gave / most) <= highest + 1e-9


def test_shed_to_cap_lets_appliances_wait_only_while_they_can(make_state, make_jobs):
    jobs = make_jobs(3, closes_h=[9.0, 3.0, 1.55], power_kw=2.0)
    state = make_state(1, inflexible_kw=1.0, pv_available_kw=0.0, battery_soc=0.0, ev_connected=0.0, jobs=jobs)
    points, gave = shed_to_cap(state, points_at(1, run=[True] * 3), cap_of(state, 5.0), POLICY)
    np.testing.assert_array_equal(points.run, [False, True, True])
    points, gave = shed_to_cap(state, points_at(1, run=[True] * 3), cap_of(state, 0.0), POLICY)
    np.testing.assert_array_equal(points.run, [False, False, True])
    assert gave[0] == pytest.approx(4.0)


@given(st.floats(-20, 60), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_shed_to_cap_never_gives_more_than_asked_and_meets_the_cap_or_gives_all(make_state, cap, fairness, seed):
    rng = np.random.default_rng(seed)
    state = make_state(5, inflexible_kw=rng.uniform(0, 4, 5), battery_soc=rng.random(5), ev_soc=rng.random(5),
                            indoor_c=rng.uniform(17, 25, 5), pv_available_kw=0.0)  # fmt: skip
    wanted = points_at(5, ev=4.0, hvac=1.0)
    before = float(wanted.net_kw(state).sum())
    points, gave = shed_to_cap(state, wanted, cap_of(state, cap, fairness), POLICY)
    after = float(points.net_kw(state).sum())
    assert gave.min() >= -1e-9
    assert before - after == pytest.approx(gave.sum(), abs=1e-6)
    everything = float(shed_to_cap(state, wanted, cap_of(state, -1e6), POLICY)[0].net_kw(state).sum())
    assert after == pytest.approx(max(min(before, cap), everything), abs=1e-6)


@pytest.mark.parametrize(("ev_kw", "net_kw"), [(11.0, 6.0), (-10.0, -4.0)], ids=["up", "down"])
def test_ramp_moves_only_as_far_as_it_may(make_state, ev_kw, net_kw):
    state = make_state(1, inflexible_kw=1.0, pv_available_kw=0.0, import_kw=1.0, export_kw=0.0, hvac_kw=0.0)
    points, miss = hold_ramp(state, points_at(1, ev=ev_kw), 5.0, 60.0)
    assert points.net_kw(state)[0] == pytest.approx(net_kw)
    assert miss == 0


def test_ramp_of_the_load_itself_is_told(make_state):
    state = make_state(1, inflexible_kw=9.0, pv_available_kw=0.0, import_kw=1.0, export_kw=0.0, hvac_kw=0.0)
    points, miss = hold_ramp(state, points_at(1), 5.0, 60.0)
    assert miss == pytest.approx(3.0)
    assert points.battery_kw[0] == 0


def test_reserve_stops_discharge_and_tells_what_is_missing(make_state):
    state = make_state(2, pv_available_kw=0.0, battery_soc=0.9, ev_connected=0.0)
    policy = HemsPolicy(reserve_kw=8.0)
    points, miss = hold_reserve(state, points_at(2, battery=-5.0), policy)
    assert reserve_of(state, points, policy).sum() == pytest.approx(8.0)
    assert miss == 0
    _, miss = hold_reserve(state, points_at(2, battery=-5.0), HemsPolicy(reserve_kw=50.0))
    assert miss == pytest.approx(50 - 20)


def test_reserve_counts_only_energy_that_lasts(make_state):
    state = make_state(1, pv_available_kw=0.0, battery_soc=0.1, ev_connected=0.0)
    held = reserve_of(state, points_at(1), HemsPolicy(reserve_kw=1.0, reserve_hold_min=30))
    assert held[0] == pytest.approx(0.1 * 10 * 0.95 / 0.5)


@pytest.mark.parametrize(("hertz", "share"), [(50.05, 0.0), (49.99, 0.0), (49.89, 0.5), (49.7, 1.0)])
def test_response_follows_the_frequency(make_state, hertz, share):
    unit = Table("storage_report", ("s1",), {"frequency_hz": np.array([hertz])}, 0)
    state = replace(make_state(3, pv_available_kw=0.0, battery_soc=0.9, ev_connected=0.0), storage=unit)
    points, given_kw = respond(state, points_at(3), HemsPolicy(reserve_kw=6.0))
    assert given_kw == pytest.approx(6.0 * share)
    assert -points.battery_kw.sum() == pytest.approx(6.0 * share)


def test_limits_together_the_cap_has_the_last_word_and_the_reserve_says_so(make_state):
    state = make_state(2, inflexible_kw=4.0, pv_available_kw=0.0, battery_soc=0.9, ev_connected=0.0, import_kw=4.0)
    policy = HemsPolicy(reserve_kw=10.0)
    kept = keep_fleet_limits(state, points_at(2), [cap_of(state, 2.0)], policy, 60.0)
    assert kept.points.net_kw(state).sum() == pytest.approx(2.0)
    assert kept.reserve_miss_kw == pytest.approx(10 - (10 - 6))


@given(st.integers(0, 5), st.lists(st.tuples(st.integers(1, 14), st.floats(-5, 30)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_shedding_for_groups_never_raises_an_import_and_keeps_every_cap_that_can_be_kept(make_state, seed, asked):
    """Groups may be nested or overlap: shedding for one lowers imports only."""
    rng = np.random.default_rng(seed)
    state = make_state(4, inflexible_kw=rng.uniform(0, 6, 4), pv_available_kw=0.0, ev_departure_h=12.0,
                       battery_soc=rng.uniform(0, 1, 4), indoor_c=22.0)  # fmt: skip
    wanted = points_at(4, ev=5.0, hvac=1.5)
    caps = [cap_of(state, kw, rows=np.array([bool(code >> n & 1) for n in range(4)])) for code, kw in asked]
    before = wanted.net_kw(state)
    kept = keep_fleet_limits(state, wanted, caps, POLICY, 60.0)
    net = kept.points.net_kw(state)
    assert (net <= before + 1e-9).all()
    np.testing.assert_allclose(before - net, kept.given_kw, atol=1e-9)
    lowest = shed_to_cap(state, wanted, cap_of(state, -1e6), POLICY)[0].net_kw(state)
    for cap in caps:
        assert float(cap.over_kw(net)) <= max(float(lowest[cap.rows].sum() - cap.kw), 0) + 1e-6
    outside = ~np.logical_or.reduce([cap.rows for cap in caps])
    np.testing.assert_array_equal(net[outside], before[outside])
