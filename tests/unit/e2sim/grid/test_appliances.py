"""Appliances: windows, runs in one piece, deadlines that hold whatever the set-point says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.grid.appliances import KINDS, Appliances, Jobs, make_jobs
from ric.columns import Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS

DISHWASHER, POOL_PUMP = (next(n for n, k in enumerate(KINDS) if k.name == name) for name in ("dishwasher", "pool-pump"))


def one(kind=DISHWASHER, opens_h=1.0, closes_h=5.0, run_h=1.5):
    jobs = Jobs(*(np.array([[value]]) for value in (opens_h * 3600, closes_h * 3600, run_h)))
    return Appliances(np.array([0]), np.array([kind]), ("home-1",), jobs, 0.0)


def told(appliance, run):
    return appliance.apply(Table("appliance_set_point", appliance.ids, {"run": np.array([float(run)])}, 0), 1e9)


def live(appliance, hours, start_h=0.0, minutes=5):
    steps = round(hours * 60 / minutes)
    return np.array([appliance.running_at(start_h * 3600 + n * minutes * 60, minutes * 60)[0] for n in range(steps)])


def test_appliance_without_set_point_starts_when_its_window_opens():
    appliance = one()
    ran = live(appliance, 6)
    assert np.flatnonzero(ran)[0] == 12
    assert ran.sum() * 5 == pytest.approx(90)
    assert appliance.late_h[0] == 0


def test_appliance_told_to_wait_still_meets_its_deadline_in_one_piece():
    appliance = one()
    told(appliance, 0)
    ran = np.flatnonzero(live(appliance, 6))
    assert (np.diff(ran) == 1).all()
    assert (ran[-1] + 1) * 5 / 60 <= 5.0
    assert ran[0] * 5 / 60 >= 3.4
    assert appliance.late_h[0] == 0


def test_appliance_run_in_one_piece_cannot_be_stopped_but_an_interruptible_one_can():
    fixed, pump = one(), one(POOL_PUMP)
    for appliance in (fixed, pump):
        live(appliance, 1.5)
        assert appliance.running[0]
    with pytest.raises(TwinRicError, match="interrupted"):
        told(fixed, 0)
    told(pump, 0)
    assert live(pump, 0.5, 1.5).sum() == 0
    assert live(fixed, 0.5, 1.5).all()


@pytest.mark.parametrize("value", [0.5, float("nan"), 2.0])
def test_appliance_set_point_other_than_on_or_off_is_refused(value):
    with pytest.raises(TwinRicError, match="0 or 1"):
        told(one(), value)


def test_appliance_unknown_is_refused():
    with pytest.raises(TwinRicError, match="ids"):
        one().apply(Table("appliance_set_point", ("home-1/oven",), {"run": np.ones(1)}, 0), 1e9)


@given(st.lists(st.booleans(), min_size=24, max_size=24), st.sampled_from(range(len(KINDS))), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_appliance_whatever_it_is_told_every_job_is_done_in_its_window(orders, kind, seed):
    jobs = make_jobs(np.array([kind]), 0.0, 4, seed)
    appliance = Appliances(np.array([0]), np.array([kind]), ("h",), jobs, 0.0)
    ran_h, was_running = 0.0, False
    for step in range(3 * 24 * 12):
        order = orders[step // 12 % 24]
        if not (appliance.running[0] and not appliance.interruptible[0]):
            told(appliance, order)
        before = appliance.left_h[0]
        share = appliance.running_at(step * 300.0, 300.0)[0]
        ran_h += share / 12
        if was_running and not appliance.interruptible[0] and before > 1e-6:
            assert share > 0
        was_running = bool(appliance.running[0])
    assert appliance.late_h[0] == 0
    whole = jobs.closes_s[0] <= 3 * 86_400
    assert ran_h >= jobs.run_h[0][whole & (jobs.opens_s[0] >= 0)].sum() - 1e-6


def test_appliance_jobs_repeat_with_the_seed_and_lie_on_quarters_of_an_hour():
    kind = np.arange(len(KINDS))
    first, again, other = (make_jobs(kind, 86_400.0, 10, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.opens_s, again.opens_s)
    assert not np.array_equal(first.opens_s, other.opens_s)
    assert not (first.opens_s % 900).any()
    assert not (first.run_h % 0.25).any()
    assert (first.closes_s - first.opens_s >= first.run_h * 3600).all()


def test_appliance_report_is_a_valid_table():
    appliance = one()
    table = decode_table(encode_table(appliance.report(0.0)), GRID_SCHEMAS, "E2")
    assert table["opens_h"][0] == pytest.approx(1.0)
    assert table["closes_h"][0] == pytest.approx(5.0)
    assert table["left_h"][0] == 1.5


def test_appliance_energy_is_pending_from_its_windows_opening_until_it_is_done():
    appliance = one()
    told(appliance, 0)
    seen = []
    for hour in range(6):
        seen.append(float(appliance.pending_kwh[0]))
        live(appliance, 1, hour)
    whole = 1.5 * appliance.power_kw[0]
    assert seen[0] == 0
    assert seen[2] == pytest.approx(whole)
    assert appliance.pending_kwh[0] == pytest.approx(0, abs=1e-9)
