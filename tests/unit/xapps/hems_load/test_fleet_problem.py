"""Problems of some homes alone, and what a plan says it relaxed."""

from dataclasses import replace

import numpy as np

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.fleet_problem import relaxation_of
from xapps.hems_load.solver import Effort, solve_fleet


def test_fleet_problem_take_keeps_the_rows_asked_for():
    problem = replace(make_fleet(0), fleet_price=np.arange(24.0))
    part = problem.take(np.array([4, 1]))
    assert part.homes == 2
    assert np.array_equal(part.meter.load_kw, problem.meter.load_kw[[4, 1]])
    assert np.array_equal(part.ev.target_kwh, problem.ev.target_kwh[[4, 1]])
    assert part.fleet_price is problem.fleet_price


def test_relaxation_of_names_the_gravest_first():
    problem = make_fleet(0)
    plan, _ = solve_fleet(problem, effort=Effort(threads=1))
    none = {code: np.zeros(problem.homes) for code in plan.relaxed}
    assert relaxation_of(replace(plan, relaxed=none), 0) == ("", {})
    some = none | {"COMFORT_RELAXED": np.full(problem.homes, 2.0), "CONTRACT_RELAXED": np.full(problem.homes, 1.0)}
    code, amounts = relaxation_of(replace(plan, relaxed=some), 0)
    assert code == "CONTRACT_RELAXED"
    assert amounts == {"CONTRACT_RELAXED": 1.0, "COMFORT_RELAXED": 2.0}
