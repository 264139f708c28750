"""The Newton step solves its equations: balance and dynamics hold after a full step."""

import numpy as np
import pytest

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.blocks import Workspace, kept_rows, solve_homes
from xapps.hems_load.solver.storages import as_storages


def in_all_steps(values, varies):
    """Data whose first step holds in all steps, spelt out."""
    return np.where(varies[:, None, None], values, values[:, :, :1])


def solved(problem, gap_eur):
    s = as_storages(problem, problem.meter.load_kw)
    n, homes, steps = s.low.shape
    work = Workspace.of(s)
    kept = np.zeros((homes, kept_rows(n), steps), dtype=np.float32)
    power, price = np.zeros((s.of.size - 4, homes, steps)), np.zeros((homes, steps))
    taken, gaps = np.zeros(homes, dtype=np.int64), np.array([gap_eur, gap_eur])
    solve_homes(s, work, s.first_box, kept, -1, 60, gaps, 1e-3, power, price, taken)
    return s, work, price, taken


@pytest.mark.parametrize("gap_eur", [1e-3, 0.1])
def test_interior_point_solution_satisfies_balance_and_dynamics(gap_eur):
    problem = make_fleet(1, homes=rows.LANES)
    s, work, _, taken = solved(problem, gap_eur)
    n, _, steps = s.low.shape
    assert taken.max() < 50
    boxes = work.boxes.reshape(steps, s.of.size, rows.BOX, rows.L)
    v = boxes[:, :, rows.V // rows.L].transpose(1, 2, 0).astype(float)
    sigma, gain = in_all_steps(s.sigma, s.box_varies[rows.SIGMA]), in_all_steps(s.gain, s.box_varies[rows.GAIN])
    off = s.base_kw + (sigma * v).sum(axis=0)
    assert np.abs(off).max() < 1e-4
    state = (
        work.stores.reshape(steps + 2, n, rows.STORE, rows.L)[1:-1, :, rows.S // rows.L]
        .transpose(1, 2, 0)
        .astype(float)
    )
    keep, drift = in_all_steps(s.keep, s.store_varies[rows.KEEP]), in_all_steps(s.drift, s.store_varies[rows.DRIFT])
    most = in_all_steps(s.high_kw, s.box_varies[rows.MOST])
    before = np.concatenate([s.start[:, :, None], state[:, :, :-1]], axis=2)
    flow = np.array([(gain * v)[s.of == device].sum(axis=0) for device in range(n)])
    assert np.abs(keep * before + drift + flow - state).max() < 1e-3
    assert np.all((v >= 0) & (v <= most + 1e-5))


def test_interior_point_more_homes_than_lanes_are_all_solved():
    problem = make_fleet(2, homes=41, steps=8)
    _, _, price, taken = solved(problem, 1e-3)
    assert taken.min() > 0
    assert np.all(price.max(axis=1) > 0)
