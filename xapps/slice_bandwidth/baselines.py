"""What the actor is measured against, and what stands in for it.

The static split, the gradient transfer of eq (2), a threshold rule, predict-and-enumerate, and the myopic optimum of
the coming load, which nobody can know. Each says how much it prefers every split, (..., 525), for any leading axes, so
that a thousand environments cost one call and the safety layer can project any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.forecast import Forecaster, blended, foresee, scenarios
from xapps.slice_bandwidth.lattice import SPLITS, nearness, sum_over_slices
from xapps.slice_bandwidth.model import (
    CALENDAR_SLOTS,
    CONTROL,
    MONITORING,
    SLOT_MBPS,
    STATIC_SLOTS,
    LinkModel,
    predict_table,
)
from xapps.slice_bandwidth.objective import Limits, cost_table, moved_slots
from xapps.slice_bandwidth.rl_agent import Observation

__all__ = [
    "GRADIENT_STEP", "THRESHOLDS", "Situation", "Thresholds", "gradient_transfer", "myopic_oracle",
    "predict_and_enumerate", "static_split", "threshold_rule",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRADIENT_STEP = 1.0
"""eta of eq (2) [slot per unit of loss]: the best of a small grid on one training traffic seed."""
MOVE_SHARE = 0.1
"""Share of a move's price that one decision of predict-and-enumerate bears, because a slot that moved serves for some
periods: the best of 0.1, 0.15, 0.25 and 0.4 on training seeds."""


@dataclass(frozen=True)
class Situation:
    """What a split is chosen for: load [Mb/s], backlog [Mbit] and slots in force, (..., 3); period (...) [s]."""

    offered_mbps: Floats
    queue_mbit: Floats
    slots: Ints
    period_s: Floats

    @property
    def demand_slots(self) -> Floats:
        """Slots (..., 3) that the load and the backlog, drained within the period, fill."""
        return np.asarray((self.offered_mbps + self.queue_mbit / self.period_s[..., None]) / SLOT_MBPS)


@dataclass(frozen=True)
class Thresholds:
    """A threshold rule's utilisations [1]: grow above `high`, shrink below `low`, to `target` either way."""

    high: float
    low: float
    target: float


THRESHOLDS = Thresholds(1.2, 0.85, 1.05)
"""The best of a grid on training seeds (`python -m benchmarks.slice_rl --tune`)."""


def static_split(lead: tuple[int, ...] = ()) -> Floats:
    """Preference (*lead, 525) for 25/50/25."""
    return np.broadcast_to(nearness(STATIC_SLOTS.astype(np.float64)), (*lead, len(SPLITS)))


def gradient_transfer(situation: Situation, limits: Limits, link: LinkModel, *, step: float = GRADIENT_STEP) -> Floats:
    """Eq (2): B_control_new = B_control_old + eta dL/dB_monitor B_monitor_idle, rounded to whole slots.

    L is eq (3) with the price of broken limits at the situation's load, its derivative a central difference over one
    slot either side, B in slots. Only one way, the control slice could never give back what it took; so the same rule
    with the roles exchanged is subtracted. The protection slice keeps what it has. Source: distribution-automation
    paper.
    """
    prediction = predict_table(situation.offered_mbps, situation.queue_mbit, situation.period_s, link)
    _, cost = cost_table(prediction, limits)
    slots = np.clip(situation.slots, 1, CALENDAR_SLOTS - 1)
    above, below = (np.take_along_axis(cost, (slots + way)[..., None, :], axis=-2)[..., 0, :] for way in (1, -1))
    gradient = np.clip((above - below) / 2, -5.0, 5.0)
    idle = np.maximum(situation.slots - situation.demand_slots, 0.0)
    gain = gradient[..., MONITORING] * idle[..., MONITORING] - gradient[..., CONTROL] * idle[..., CONTROL]
    moved = np.rint(step * gain)
    wanted = situation.slots.astype(np.float64)
    wanted[..., CONTROL] += moved
    wanted[..., MONITORING] -= moved
    return nearness(wanted)


def threshold_rule(situation: Situation, thresholds: Thresholds = THRESHOLDS) -> Floats:
    """Each slice at `target` utilisation once its own leaves `low`..`high`; what is short, monitoring lacks first."""
    demand, slots = situation.demand_slots, situation.slots.astype(np.float64)
    leaves = (demand > thresholds.high * slots) | (demand < thresholds.low * slots)
    wanted = np.clip(np.where(leaves, np.ceil(demand / thresholds.target), slots), 1, CALENDAR_SLOTS)
    for index in (MONITORING, CONTROL):
        short = np.maximum(wanted.sum(axis=-1) - CALENDAR_SLOTS, 0.0)
        wanted[..., index] = np.maximum(wanted[..., index] - short, 1.0)
    return nearness(wanted)


def _with_moves(table: Floats, slots: Ints, limits: Limits, share: float = 1.0) -> Floats:
    """Minus the cost (..., 525) of splits whose slot counts cost `table` (..., 21, 3), `share` of the moves added."""
    moves = moved_slots(slots[..., None, :], SPLITS)
    return np.asarray(-sum_over_slices(table) - share * limits.slot_move_cost[..., None] * moves)


def predict_and_enumerate(seen: Observation, forecaster: Forecaster, limits: Limits) -> Floats:
    """Minus the expected cost under a quantile forecast of each slice's load, moves included: exact over the lattice.

    Exact, because eq (3) is separable over slices. The coming period, the two after it and those in which a backlog
    drains count with :data:`forecast.BLEND`.
    """
    loads = scenarios(forecaster, seen.offered_mbps, seen.period_s, seen.alarm)
    outlook = foresee(loads, seen.queue_mbit, seen.period_s, limits, seen.link)
    return _with_moves(blended(outlook.expected()), seen.slots, limits, MOVE_SHARE)


def myopic_oracle(situation: Situation, limits: Limits, link: LinkModel) -> Floats:
    """Minus the cost of the period with the situation's load, by enumeration of the whole lattice.

    With the load of the coming period it is the myopic benchmark, with the last one the plainest enumeration. What a
    split does to later periods is not counted.
    """
    prediction = predict_table(situation.offered_mbps, situation.queue_mbit, situation.period_s, link)
    return _with_moves(cost_table(prediction, limits)[1], situation.slots, limits)
