"""What happens to the homes: SimBench's energy exactly, our texture, plausible weather, EV stays in order."""

import datetime as dt

import numpy as np
import pytest

from e2sim.grid.traces import Traces, profile_index

START_S = dt.datetime(2016, 4, 12, tzinfo=dt.UTC).timestamp()


def test_minutes_of_a_quarter_have_exactly_its_mean(traces):
    for block in (0, 40, 50, 80):
        block_s = START_S + block * 900
        mean_load, mean_pv = traces.mean_kw(block_s)
        minutes = np.array([traces.power_kw(block_s + 60 * n)[0] for n in range(15)])
        np.testing.assert_allclose(minutes.mean(axis=0), mean_load, rtol=1e-9)
        assert minutes.std(axis=0).max() > 0
        pv = np.array([traces.power_kw(block_s + 60 * n)[1] for n in range(15)]).mean(axis=0)
        # Clipping at the peak power may take a little.
        assert (pv <= mean_pv + 1e-9).all()
        assert (pv >= 0.97 * mean_pv - 1e-9).all()


def test_minutes_are_the_same_in_any_order(grid, fleet):
    one, other = (Traces(grid, fleet, texture=0.35, seed=3) for _ in range(2))
    forward = [one.power_kw(START_S + 60 * n)[0] for n in range(40)]
    backward = [other.power_kw(START_S + 60 * n)[0] for n in reversed(range(40))][::-1]
    np.testing.assert_array_equal(forward, backward)


def test_without_texture_minutes_are_the_profile(grid, fleet):
    traces = Traces(grid, fleet, texture=0.0, seed=3)
    np.testing.assert_allclose(traces.power_kw(START_S + 43_260)[0], traces.mean_kw(START_S + 43_200)[0])


def test_profile_index_follows_the_calendar_of_any_year():
    new_year = dt.datetime(2016, 1, 1, tzinfo=dt.UTC).timestamp()
    assert profile_index(new_year) == 0
    assert profile_index(new_year + 86_400) == 96
    assert profile_index(dt.datetime(2026, 1, 2, tzinfo=dt.UTC).timestamp()) == 96


def test_weather_is_cold_in_winter_warm_in_summer_and_continuous(traces):
    day_s = 86_400
    year = np.array([traces.outdoor_c(START_S - 102 * day_s + n * day_s + 43_200) for n in range(365)])
    assert year[:60].mean() < 8 < 14 < year[180:240].mean()
    assert year.min() > -20
    assert year.max() < 35
    hour = np.array([traces.outdoor_c(START_S + 60 * n) for n in range(3 * 1440)])
    assert np.abs(np.diff(hour)).max() < 0.05


def test_sessions_of_a_home_do_not_overlap_and_cover_the_night(traces, fleet):
    sessions = traces.sessions(START_S, 4)
    assert (np.diff(sessions.arrival_s) >= 0).all()
    owners = np.flatnonzero(fleet.devices.ev_kwh > 0)
    assert set(sessions.home.tolist()) == set(owners.tolist())
    for home in owners:
        mine = sessions.home == home
        arrival, departure = sessions.arrival_s[mine], sessions.departure_s[mine]
        assert (departure > arrival + 3600).all()
        assert (arrival[1:] > departure[:-1]).all()
        night = START_S + 86_400
        assert ((arrival <= night) & (departure > night)).sum() == 1
    assert (sessions.driven_kwh > 0).all()


def test_occupancy_follows_workdays(traces):
    noon, night = START_S + 43_200, START_S + 3 * 3600
    assert traces.occupied(night).all()
    assert 0 < traces.occupied(noon).mean() < 1
    saturday = START_S + 4 * 86_400 + 43_200
    assert traces.occupied(saturday).all()


def test_background_is_the_rest_of_the_grid(traces, grid, fleet):
    loads, units = traces.background_kw(START_S + 43_200)
    assert loads.shape == fleet.background[0].shape
    assert units.shape == fleet.background[1].shape
    assert loads.sum() > 0
    assert traces.pv_per_kwp(START_S) == pytest.approx(0)
