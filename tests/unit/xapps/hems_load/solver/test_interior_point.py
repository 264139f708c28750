"""The Newton step solves its equations: balance and dynamics hold after a full step."""

import numpy as np
import pytest

from tests.unit.xapps.hems_load.solver.conftest import make_fleet
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.blocks import Frame, Last, Room, kept_rows, solve_homes
from xapps.hems_load.solver.columns import columns_of
from xapps.hems_load.solver.settle import Plans, Settled
from xapps.hems_load.solver.storages import BASE_KW, START, Devices, Posed, box_row, pose_home, store_row

ALL = ("battery", "ev", "heat_pump", "appliances")


def solved(problem, gap_eur):
    """Columns, devices, workspace, plans of homes that are taken to have all kinds of devices, without runs."""
    c = columns_of(problem)._replace(run_kw=np.zeros((problem.homes, 0)))
    homes, steps, slots = problem.homes, problem.steps, c.appliance_kw.shape[1]
    devices = Devices.of(c, ALL)
    frame = Frame.of(devices, steps)
    work = Room([frame]).workspace(frame)
    plans = Plans(
        np.zeros((11, homes, steps)), np.zeros((homes, slots, steps)), np.full((homes, 0), -1), np.zeros((homes, 5)),
        np.zeros((5, homes)), np.zeros((homes, steps), np.float32), np.zeros(homes, dtype=np.int64),
    )  # fmt: skip
    kept = np.zeros((homes, kept_rows(devices.kind.size), steps), dtype=np.float32)
    every = np.arange(homes)
    last = Last(every, kept, every, -1, plans.price, 0, np.full(homes, gap_eur))
    posed, room = Posed.room(rows.LANES, devices, steps), Settled.room(devices, steps)
    solve_homes(c, work, devices, posed, room, last, kept, 60, gap_eur, 1e-3, plans)
    return c, devices, work, plans


def posed_homes(c, devices, homes):
    """(N, rows, T) with all steps spelt out, and (N, n, 2)."""
    posed = Posed.room(homes, devices, c.hours.size)
    for home in range(homes):
        pose_home(c, devices, home, posed.rows[home], posed.ends[home])
    return np.where(devices.varies[:, None], posed.rows, posed.rows[:, :, :1]), posed.ends


@pytest.mark.parametrize("gap_eur", [1e-3, 0.1])
def test_interior_point_solution_satisfies_balance_and_dynamics(gap_eur):
    problem = make_fleet(1, homes=rows.LANES)
    c, devices, work, plans = solved(problem, gap_eur)
    n, steps, boxes = devices.kind.size, problem.steps, int(devices.at[-1])
    assert plans.taken.max() < 50
    data, ends = posed_homes(c, devices, rows.LANES)
    v = work.boxes.reshape(steps, boxes, rows.BOX, rows.L)[:, :, rows.V // rows.L].transpose(1, 2, 0).astype(float)
    sigma = np.array([-1, -1, 1, 1] + [1 if j in devices.at else -1 for j in range(4, boxes)])[:, None, None]
    assert np.abs(data[:, BASE_KW] + (sigma * v).sum(axis=0)).max() < 1e-4
    state = work.stores.reshape(steps + 2, n, rows.STORE, rows.L)[1:-1, :, rows.S // rows.L].transpose(1, 2, 0)
    before = np.concatenate([ends[:, :, START].T[:, :, None], state[:, :, :-1].astype(float)], axis=2)
    for i in range(n):
        own = range(int(devices.at[i]), int(devices.at[i + 1]))
        keep, drift = (data[:, store_row(boxes, i, part)] for part in (rows.KEEP, rows.DRIFT))
        flow = sum(data[:, box_row(j, rows.GAIN)] * v[j] for j in own)
        assert np.abs(keep * before[i] + drift + flow - state[i]).max() < 1e-3
    most = np.stack([data[:, box_row(j, rows.MOST)] for j in range(boxes)])
    assert np.all((v >= 0) & (v <= most + 1e-5))


def test_interior_point_more_homes_than_lanes_are_all_solved():
    problem = make_fleet(2, homes=41, steps=8)
    _, _, _, plans = solved(problem, 1e-3)
    assert plans.taken.min() > 0
    assert np.all(plans.price.max(axis=1) > 0)
