"""The storage schedule as set-point of the step that holds now."""

from dataclasses import replace

import numpy as np
import pytest

from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.decision import Decision, storage_set_point
from xapps.hems_load.tracking import SetPoints

NS = 10**9


def unit(time_ns, max_kw=80.0):
    values = {"charge_kw": 0.0, "discharge_kw": 0.0, "soc": 0.5, "capacity_kwh": 200.0, "max_kw": max_kw,
              "efficiency": 0.96, "frequency_hz": 50.0}  # fmt: skip
    return Table("storage_report", ("s1",), {name: np.array([value]) for name, value in values.items()}, time_ns)


def schedule(time_ns, charge, discharge):
    columns = {"step_s": np.array([900.0]), "charge_kw": np.array([charge]), "discharge_kw": np.array([discharge]),
               "reserve_kw": np.full((1, len(charge)), 8.0), "soc": np.full((1, len(charge)), 0.5)}  # fmt: skip
    return Table("storage_schedule", ("s1",), columns, time_ns)


@pytest.fixture
def state(make_state):
    state = make_state(1)
    return replace(state, storage=unit(state.source_time_ns))


@pytest.mark.parametrize(
    ("age_s", "charge", "discharge"), [(0, 10, 0), (899, 10, 0), (900, 0, 20), (1800, 80, 0)],
    ids=["first step", "its last second", "second step", "beyond the unit's power"],
)  # fmt: skip
def test_storage_set_point_is_the_step_that_holds_now(state, age_s, charge, discharge):
    planned = schedule(state.source_time_ns - age_s * NS, [10.0, 0.0, 90.0], [0.0, 20.0, 0.0])
    table = storage_set_point(replace(state, schedule=planned))
    assert (table["charge_kw"][0], table["discharge_kw"][0]) == (charge, discharge)
    assert table["reserve_kw"][0] == 8


@pytest.mark.parametrize("age_s", [-1, 2700], ids=["not begun", "run out"])
def test_storage_set_point_outside_the_schedule_is_none(state, age_s):
    planned = schedule(state.source_time_ns - age_s * NS, [1.0, 1.0, 1.0], [0.0] * 3)
    assert storage_set_point(replace(state, schedule=planned)) is None


def test_storage_set_point_of_another_unit_is_none(state):
    planned = replace(schedule(state.source_time_ns, [1.0], [0.0]), ids=("s2",))
    assert storage_set_point(replace(state, schedule=planned)) is None


def test_decision_carries_every_home_in_order(make_state):
    state = make_state(3)
    points = SetPoints(np.arange(3.0), *(np.zeros(3) for _ in range(4)), np.zeros(0, dtype=bool))
    decision = Decision.of(state, points, reason=Reason("TEST"))
    assert decision.homes.ids == state.homes.ids
    np.testing.assert_array_equal(decision.homes["battery_kw"], [0, 1, 2])
    assert decision.storage is None
    assert decision.appliances is None


def test_decision_tells_only_appliances_with_a_job_in_an_open_window(make_state, make_jobs):
    jobs = make_jobs(3, left_h=[1.0, 0.0, 1.0], opens_h=[0.0, 0.0, 2.0])
    state = make_state(1, jobs=jobs)
    points = SetPoints(*(np.zeros(1) for _ in range(5)), np.ones(3, dtype=bool))
    table = Decision.of(state, points, reason=Reason("TEST")).appliances
    assert table.ids == ("home-0/0",)
    assert table["run"][0] == 1.0
