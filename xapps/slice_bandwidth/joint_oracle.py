"""The oracle of nodes that share an aggregation link: it knows the loads to come and what every node makes all wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.aggregation import SharedWait, pass_link, passed_mbit, waited
from xapps.slice_bandwidth.environment import SHARED_BUFFER_MBIT, VectorSliceEnv
from xapps.slice_bandwidth.lattice import SPLITS, index_of
from xapps.slice_bandwidth.model import ALL_SLOTS, Prediction, predict
from xapps.slice_bandwidth.objective import Limits, moved_slots, price

__all__ = ["joint_oracle"]

Floats = NDArray[np.float64]

PERIODS, SWEEPS = 3, 2
"""Periods that a split is held for in the oracle's reckoning; rounds over the nodes of a link."""


@dataclass(frozen=True)
class _Stage:
    """One period for G links of M nodes: what their own links make of it and what they let through [Mbit], all
    (G, M, 21, 3).
    """

    own: Prediction
    passed_mbit: Floats


def joint_oracle(env: VectorSliceEnv) -> NDArray[np.intp]:
    """Rows (N,) of the splits that coordinate descent over the nodes of each shared link finds cheapest.

    Every node in turn takes its best split given the others', from those in force on; the cost is that of all
    nodes of the link with their waits on it, mean over the next `PERIODS` periods under the loads that will come, and
    the node's moves. So it is an upper bound of the optimum, not the optimum. Against: all pairs of splits (tests).
    """
    stages, mask = _stages(env), env.mask()
    row = np.array([index_of(slots) for slots in env.slots])
    for _ in range(SWEEPS):
        for cell in range(env.cells):
            nodes = slice(cell, None, env.cells)
            moves = moved_slots(env.slots[nodes][:, None], SPLITS) * env.policies.limits.slot_move_cost[nodes, None]
            cost = _costs(env, stages, row, cell) + moves
            row[nodes] = np.argmin(np.where(mask[nodes], cost, np.inf), axis=-1)
    return row


def _stages(env: VectorSliceEnv) -> list[_Stage]:
    """What each slot count makes of the coming periods, if it is held."""
    period_s, link = env.period_s[:, None, None], env.link.per_slot()
    queue: Floats = env.queue_mbit[:, None, :]
    shape = (-1, env.cells, len(ALL_SLOTS), 3)
    out = []
    for step in range(PERIODS):
        load = env.traffic.offered_mbps[env.at + step][:, None, :]
        got = predict(load, queue, ALL_SLOTS, period_s, link)
        passed = passed_mbit(load, queue, got.queue_mbit, ALL_SLOTS, period_s)
        queue = got.queue_mbit
        own = Prediction(*(value.reshape(shape) for value in vars(got).values()))
        out.append(_Stage(own, passed.reshape(shape)))
    return out


def _costs(env: VectorSliceEnv, stages: Sequence[_Stage], row: NDArray[np.intp], cell: int) -> Floats:
    """Mean cost (G, 525) per period of all nodes of each link, for every split of its node number `cell`."""
    cells, many = env.cells, len(SPLITS)
    slots = SPLITS[row].reshape(-1, 1, cells, 3).repeat(many, axis=1)
    slots[:, :, cell] = SPLITS
    limits = Limits(
        *(np.asarray(value).reshape(-1, 1, cells, *np.shape(value)[1:]) for value in vars(env.policies.limits).values())
    )
    period_s, capacity = env.period_s[::cells, None], env.shared_mbps[:, None]
    waiting, total = env.shared_mbit[:, None, :], np.zeros(slots.shape[:2])
    places = np.moveaxis(slots, 1, 2)
    for stage in stages:
        *own, passed = (
            np.moveaxis(np.take_along_axis(table, places, axis=2), 2, 1)
            for table in (*vars(stage.own).values(), stage.passed_mbit)
        )
        wait = pass_link(passed.sum(axis=2), waiting, capacity, period_s, SHARED_BUFFER_MBIT)
        waiting = wait.queue_mbit
        each = SharedWait(*(value[:, :, None] for value in vars(wait).values()))
        total += price(waited(Prediction(*own), each, passed), slots, limits).sum(axis=(-1, -2))
    return total / len(stages)
