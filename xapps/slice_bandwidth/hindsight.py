"""What every split of a played episode would have cost with what could follow: the teacher of the actor.

Per slice, because eq (3) and its limits are separable: backward dynamic programming over (slots in force, backlog on a
grid) with the load that really came. Each later choice is made by the load of the period before it, as a controller
would have to make it, and paid for by the load that came: with full foresight the teacher would let queues grow that
nobody could drain in time. What couples slices (20 slots in all, the rate limit) is left out of the continuation and
kept in the first choice. Averaged over episodes the actor learns headroom and the value of an empty queue; PPO corrects
the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.lattice import Bounds
from xapps.slice_bandwidth.model import ALL_SLOTS, CALENDAR_SLOTS, SLOT_STEP, LinkModel, Prediction, predict
from xapps.slice_bandwidth.objective import Limits, priced_table

__all__ = ["GRID_MBIT", "Continuation", "Episode", "continuations"]

Floats = NDArray[np.float64]

GRID_MBIT = np.array([0.0, 5.0, 12.0, 25.0, 50.0, 90.0, 150.0, 240.0, 400.0, 700.0, 1_300.0, 5_100.0])
"""Backlogs at which continuations are tabulated [Mbit]; linear in between."""
DEAR = 1e4
STEPS_BETWEEN = np.abs(np.arange(CALENDAR_SLOTS + 1)[:, None] - np.arange(CALENDAR_SLOTS + 1))
"""(21, 21): slots between two counts."""


@dataclass(frozen=True)
class Episode:
    """N nodes over T periods: offered_mbps (T, N, 3), alarm (T, N), policies, true links (N, 3), period_s (N,)."""

    offered_mbps: Floats
    alarm: NDArray[np.bool_]
    limits: Limits
    quiet: Bounds
    alarmed: Bounds
    link: LinkModel
    period_s: Floats


@dataclass(frozen=True)
class Continuation:
    """Discounted cost (T + 1, N, 21, G, 3) of what follows, by slots in force and backlog; zero after the end."""

    table: NDArray[np.float32]

    def after(self, step: int, queue_mbit: Floats) -> Floats:
        """Cost (N, 21, 3) from period `step` on, for each slot count in force and its backlog (N, 21, 3) [Mbit]."""
        return _interpolated(self.table[step], queue_mbit[:, :, None, :])[:, :, 0, :]


def continuations(episode: Episode, discount: float) -> Continuation:
    """What follows from each period on, each cost cut as the reward cuts it."""
    steps, number = episode.offered_mbps.shape[:2]
    table = np.zeros((steps + 1, number, CALENDAR_SLOTS + 1, len(GRID_MBIT), 3), dtype=np.float32)
    link = LinkModel(*(np.asarray(value)[:, None, None, :] for value in vars(episode.link).values()))
    limits = _per_grid(episode.limits)
    move = np.asarray(episode.limits.slot_move_cost)[:, None, None, None, None] / 2 * STEPS_BETWEEN[..., None, None]

    def cost_of(step: int, following: NDArray[np.float32]) -> Floats:
        load = episode.offered_mbps[step][:, None, None, :]
        got = predict(load, GRID_MBIT[:, None], ALL_SLOTS[:, None, :], episode.period_s[:, None, None, None], link)
        # The grid's axis is in the place of an environment's here, so that the table is (N, G, 21, 3) to `priced`.
        stage = np.swapaxes(priced_table(_swapped(got), limits), 1, 2)
        return np.asarray(stage + discount * _interpolated(following, got.queue_mbit))

    for step in reversed(range(steps)):
        true = cost_of(step, table[step + 1])
        seen = np.where(_counts(episode, step)[:, :, None, :], cost_of(max(step - 1, 0), table[step + 1]), DEAR)
        # (N, from, to, G, 3): chosen by the load that was seen, paid for by the one that came.
        choice = np.argmin((seen[:, None] + move).astype(np.float32), axis=2)
        paid = np.take_along_axis(true, choice, axis=1)
        change = np.abs(choice - np.arange(CALENDAR_SLOTS + 1)[:, None, None])
        table[step] = paid + np.asarray(episode.limits.slot_move_cost)[:, None, None, None] / 2 * change
    return Continuation(table)


def _swapped(prediction: Prediction) -> Prediction:
    return Prediction(*(np.swapaxes(value, 1, 2) for value in vars(prediction).values()))


def _per_grid(limits: Limits) -> Limits:
    """The limits with an axis for the grid after the environments'."""
    return Limits(
        limits.weights[:, None], limits.d_max_ms[:, None], limits.j_max_ms[:, None], limits.b_min_mbps[:, None],
        limits.violation_cost[:, None], limits.shortfall[:, None], limits.slot_move_cost, limits.budget_ms,
    )  # fmt: skip


def _counts(episode: Episode, step: int) -> NDArray[np.bool_]:
    """Slot counts (N, 21, 3) that granularity, floors and ceilings allow in a period."""
    low = np.where(episode.alarm[step][:, None], episode.alarmed.low, episode.quiet.low)
    counts = ALL_SLOTS
    inside = (counts >= np.maximum(low, SLOT_STEP)[:, None, :]) & (counts <= episode.quiet.high[:, None, :])
    return np.asarray(inside & (counts % SLOT_STEP == 0))


def _interpolated(table: NDArray[np.floating], queue_mbit: Floats) -> Floats:
    """Values of `table` (N, 21, G, 3) at backlogs (N, 21, Q, 3)."""
    queue = np.minimum(queue_mbit, GRID_MBIT[-1])
    place = np.clip(np.searchsorted(GRID_MBIT, queue, side="right") - 1, 0, len(GRID_MBIT) - 2)
    share = (queue - GRID_MBIT[place]) / (GRID_MBIT[place + 1] - GRID_MBIT[place])
    below = np.take_along_axis(table, place, axis=2)
    above = np.take_along_axis(table, place + 1, axis=2)
    return np.asarray(below + share * (above - below))
