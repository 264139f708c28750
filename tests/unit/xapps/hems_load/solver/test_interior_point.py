"""The Newton step solves its equations: balance and dynamics hold after a full step."""

import numpy as np

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver.blocks import Workspace, kept_rows, solve_homes
from xapps.hems_load.solver.storages import as_storages


def test_interior_point_solution_satisfies_balance_and_dynamics():
    problem = make_fleet(1, homes=9)
    s = as_storages(problem, problem.meter.load_kw)
    n, homes, steps = s.low.shape
    boxes = s.of.size
    kept = np.zeros((homes, steps, kept_rows(boxes, n)), dtype=np.float32)
    power, price, taken = np.zeros((boxes - 4, homes, steps)), np.zeros((homes, steps)), np.zeros(homes, dtype=np.int64)
    gaps = np.array([1e-3, 1e-3])
    solve_homes(s, Workspace.of(steps, boxes, n), kept, False, 60, gaps, 1e-3, power, price, taken)
    assert taken.max() < 50
    v = kept[:, :, 1 : 1 + 3 * boxes : 3].transpose(2, 0, 1).astype(float)
    off = s.base_kw + (s.sigma * v).sum(axis=0)
    assert np.abs(off).max() < 1e-4
    state = kept[:, :, 1 + 3 * boxes :: 6].transpose(2, 0, 1).astype(float)
    before = np.concatenate([s.start[:, :, None], state[:, :, :-1]], axis=2)
    flow = np.array([(s.gain * v)[s.of == device].sum(axis=0) for device in range(n)])
    assert np.abs(s.keep * before + s.drift + flow - state).max() < 5e-3
    assert np.all((v >= 0) & (v <= s.high_kw + 1e-5))


def test_interior_point_more_homes_than_lanes_are_all_solved():
    problem = make_fleet(2, homes=21, steps=8)
    s = as_storages(problem, problem.meter.load_kw)
    n, homes, steps = s.low.shape
    kept = np.zeros((homes, steps, kept_rows(s.of.size, n)), dtype=np.float32)
    power, price, taken = (
        np.zeros((s.of.size - 4, homes, steps)),
        np.zeros((homes, steps)),
        np.zeros(homes, dtype=np.int64),
    )
    work = Workspace.of(steps, s.of.size, n)
    solve_homes(s, work, kept, False, 60, np.array([1e-3, 1e-2]), 1e-3, power, price, taken)
    assert taken.min() > 0
    assert np.all(price.max(axis=1) > 0)
