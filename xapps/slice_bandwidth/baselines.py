"""What the actor is measured against: the static split, the gradient transfer of eq (2), the myopic exact optimum.

All take arrays with any leading axes (...), so that a thousand environments cost one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.lattice import SPLITS, index_of, nearest_split, sum_over_slices
from xapps.slice_bandwidth.model import CONTROL, MONITORING, SLOT_MBPS, STATIC_SLOTS, LinkModel, predict_table
from xapps.slice_bandwidth.objective import Limits, cost_table, moved_slots

__all__ = ["GRADIENT_STEP", "Situation", "gradient_transfer", "lattice_cost", "myopic_oracle", "static_split"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.intp]

GRADIENT_STEP = 1.0
"""eta of eq (2) [slot per unit of loss]: the best of a small grid on one training traffic seed."""


@dataclass(frozen=True)
class Situation:
    """What a split is chosen for: load [Mb/s], backlog [Mbit] and slots in force, (..., 3); period (...) [s]."""

    offered_mbps: Floats
    queue_mbit: Floats
    slots: Ints
    period_s: Floats


def static_split(mask: NDArray[np.bool_]) -> Rows:
    """Rows (...) of `SPLITS`: 25/50/25, or the permitted split (..., 525) nearest to it."""
    row = index_of(STATIC_SLOTS)
    other = nearest_split(np.broadcast_to(STATIC_SLOTS.astype(np.float64), (*mask.shape[:-1], 3)), mask)
    return np.asarray(np.where(mask[..., row], row, other))


def gradient_transfer(
    situation: Situation, limits: Limits, link: LinkModel, mask: NDArray[np.bool_], *, step: float = GRADIENT_STEP
) -> Rows:
    """Eq (2): B_control_new = B_control_old + eta dL/dB_monitor B_monitor_idle, rounded to whole slots.

    L is eq (3) with the price of broken limits at the situation's load, its derivative a central difference over one
    slot either side, B in slots. Only one way, the control slice could never give back what it took; so the same rule
    with the roles exchanged is subtracted. The protection slice keeps what it has. Source: distribution-automation
    paper.
    """
    prediction = predict_table(situation.offered_mbps, situation.queue_mbit, situation.period_s, link)
    _, cost = cost_table(prediction, limits)
    slots = np.clip(situation.slots, 1, 19)
    above, below = (np.take_along_axis(cost, (slots + way)[..., None, :], axis=-2)[..., 0, :] for way in (1, -1))
    gradient = np.clip((above - below) / 2, -5.0, 5.0)
    backlog_mbps = situation.queue_mbit / situation.period_s[..., None]
    idle = np.maximum(situation.slots - (situation.offered_mbps + backlog_mbps) / SLOT_MBPS, 0.0)
    gain = gradient[..., MONITORING] * idle[..., MONITORING] - gradient[..., CONTROL] * idle[..., CONTROL]
    moved = np.rint(step * gain)
    wanted = situation.slots.astype(np.float64)
    wanted[..., CONTROL] += moved
    wanted[..., MONITORING] -= moved
    return nearest_split(wanted, mask)


def lattice_cost(situation: Situation, limits: Limits, link: LinkModel) -> Floats:
    """Cost (..., 525) of every split: eq (3), the price of broken limits and of the slots that change hands."""
    prediction = predict_table(situation.offered_mbps, situation.queue_mbit, situation.period_s, link)
    _, cost = cost_table(prediction, limits)
    moves = moved_slots(situation.slots[..., None, :], SPLITS)
    return np.asarray(sum_over_slices(cost) + limits.slot_move_cost[..., None] * moves)


def myopic_oracle(situation: Situation, limits: Limits, link: LinkModel, mask: NDArray[np.bool_]) -> Rows:
    """Row (...) of the split of least cost among the permitted ones, by enumeration of the whole lattice.

    Exact for the load it is given: with the load of the coming period it is the benchmark (nobody can know it), with
    the last one it is mode `oracle`. Myopic: what a split does to later periods is not counted.
    """
    return np.asarray(np.argmin(np.where(mask, lattice_cost(situation, limits, link), np.inf), axis=-1))
