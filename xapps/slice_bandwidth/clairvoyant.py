"""The clairvoyant benchmark: the cheapest sequence of splits for traffic known to its end, switching cost included.

Forward dynamic programming over labels (split in force, backlog of the three queues, cost so far). The backlog is a
continuous state, so it cannot be enumerated: each label carries the backlog that its own path left behind. Per split
and period the cheapest labels are kept under several prices of backlog, so that a dearer path with emptier queues
survives where it may pay later; labels that another one of the same split beats in cost and in every queue go, and the
dearest go beyond `width`. Every label is a path that could have been driven, so the result never flatters the optimum:
it is an upper bound of the optimal cost, and the tests hold it to brute force over every sequence of short horizons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.lattice import SPLITS, Bounds, permitted, sum_over_slices
from xapps.slice_bandwidth.model import ALL_SLOTS, LinkModel, predict_table
from xapps.slice_bandwidth.objective import Limits, moved_slots, priced_table

__all__ = ["Course", "clairvoyant_course"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOVED: Ints = moved_slots(SPLITS[:, None, :], SPLITS[None, :, :])
"""(525, 525): slots that change hands from one split to another."""
BACKLOG_PRICES = (0.0, 0.3, 3.0)
"""Price [1 per D_max of delay that the backlog means] under which a label of each split is kept."""
WIDTH = 160
"""Labels kept per period."""


@dataclass(frozen=True)
class Course:
    """What happens to one node (T periods): offered_mbps (T, 3), alarm (T,), its policy, link and start."""

    offered_mbps: Floats
    alarm: NDArray[np.bool_]
    limits: Limits
    quiet: Bounds
    alarmed: Bounds
    link: LinkModel
    period_s: float
    slots: Ints
    queue_mbit: Floats

    def next(self, periods: int | None) -> Course:
        """The first of it; None for all."""
        return replace(self, offered_mbps=self.offered_mbps[:periods], alarm=self.alarm[:periods])


@dataclass(frozen=True)
class _Labels:
    """Paths so far (L): row of the split in force, backlog (L, 3), cost."""

    row: NDArray[np.intp]
    queue_mbit: Floats
    cost: Floats


def clairvoyant_course(course: Course, width: int = WIDTH) -> NDArray[np.intp]:
    """Rows (T,) of `SPLITS` of the cheapest course found: eq (3), broken limits and moves, as the reward prices them.

    Cost O(T x width x 525). Against: brute force over all sequences (tests), and itself at other widths.
    """
    start = np.flatnonzero((course.slots == SPLITS).all(axis=1))
    labels = _Labels(start[:1], course.queue_mbit[None].astype(np.float64), np.zeros(1))
    history: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for load, alarm in zip(course.offered_mbps, course.alarm, strict=True):
        labels, parent = _advance(course, labels, load, bool(alarm), width)
        history.append((labels.row, parent))
    at = int(np.argmin(labels.cost))
    path = np.empty(len(history), dtype=np.intp)
    for step in reversed(range(len(history))):
        row, parent = history[step]
        path[step] = row[at]
        at = int(parent[at])
    return path


def _advance(
    course: Course, labels: _Labels, load: Floats, alarm: bool, width: int
) -> tuple[_Labels, NDArray[np.intp]]:
    """The labels after one more period, and the place of each one's parent among `labels`."""
    many = np.broadcast_to(load, labels.queue_mbit.shape)
    prediction = predict_table(many, labels.queue_mbit, course.period_s, course.link)
    stage = sum_over_slices(priced_table(prediction, course.limits))
    total = labels.cost[:, None] + stage + course.limits.slot_move_cost * MOVED[labels.row]
    total[~_permitted_from(course, labels.row, alarm)] = np.inf
    # Delay that the backlog left behind means, against the limit, for the same slots.
    capacity = np.maximum(ALL_SLOTS, 0.2) * 5.0
    left = sum_over_slices(prediction.queue_mbit / capacity / course.limits.d_max_ms)
    kept_parent, kept_row = [], []
    for price in BACKLOG_PRICES:
        parent = np.argmin(total + price * left if price else total, axis=0)
        row = np.flatnonzero(np.isfinite(total[parent, np.arange(len(SPLITS))]))
        kept_parent.append(parent[row])
        kept_row.append(row)
    pairs = np.unique(np.concatenate(kept_parent) * len(SPLITS) + np.concatenate(kept_row))
    parent, row = np.divmod(pairs, len(SPLITS))
    cost = total[parent, row]
    queue = np.stack([prediction.queue_mbit[parent, SPLITS[row, k], k] for k in range(3)], axis=-1)
    order = np.argsort(cost, kind="stable")[: 3 * width]
    order = order[_undominated(row[order], queue[order])][:width]
    return _Labels(row[order], queue[order], cost[order]), parent[order]


def _permitted_from(course: Course, rows: NDArray[np.intp], alarm: bool) -> NDArray[np.bool_]:
    """Splits (L, 525) that the policy permits from each label's split, as the app applies it."""
    slots = SPLITS[rows]
    if not alarm:
        return permitted(course.quiet, slots)
    urgent = np.asarray((slots < course.alarmed.low).any(axis=-1))
    return np.asarray(np.where(urgent[..., None], course.alarmed.inside, permitted(course.alarmed, slots)))


def _undominated(rows: NDArray[np.intp], queue: Floats) -> NDArray[np.intp]:
    """Places of labels, sorted by cost, that no cheaper label of the same split beats in every queue."""
    same = rows[:, None] == rows[None, :]
    emptier = (queue[:, None, :] <= queue[None, :, :] + 1e-6).all(axis=-1)
    beaten = np.triu(same & emptier, 1).any(axis=0)
    return np.flatnonzero(~beaten)
