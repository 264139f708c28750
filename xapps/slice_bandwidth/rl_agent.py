"""The trained actor: a row of features per slot count and slice, one score each, the best permitted sum wins.

Eq (3) and its constraints are separable over slices, so a split's logit is the sum of three scores: the network stays
tiny, sees the policy's weights and limits (it is conditioned on them), and every split has a probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.lattice import sum_over_slices
from xapps.slice_bandwidth.model import ALL_SLOTS, CALENDAR_SLOTS, SLOT_MBPS, LinkModel, predict, predict_table
from xapps.slice_bandwidth.objective import Limits, cost_table

__all__ = [
    "BASE",
    "FEATURES",
    "MOVE",
    "MOVE_WEIGHT",
    "ROWS",
    "Actor",
    "Observation",
    "choose",
    "features",
    "shielded",
    "split_logits",
]

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

FEATURES = 36
"""Columns of a feature row."""
ROWS = (CALENDAR_SLOTS + 1) * 3
"""Rows per decision: 0..20 slots for each of three slices."""
BASE = 0
"""Column of the cost that the analytic queue predicts should the last load persist: the actor starts from it."""
BASE_LIMIT = 30.0
MOVE, MOVE_WEIGHT = 18, 0.5
"""Column of the price of moving, and its weight in the prior: two changes of one slot are one that changes hands."""
LIMIT = 10.0
LAGS = (1, 2, 3, 5, 8)


class Actor(Protocol):
    """What scores feature rows: the ONNX session behind the app, or the network while it trains."""

    def __call__(self, rows: Features, /) -> Features:
        """Scores (R,) of feature rows (R, FEATURES)."""
        ...


@dataclass(frozen=True)
class Observation:
    """What the actor sees, for any leading axes (...): history (..., 8, 3), others (..., 3), period and alarm (...)."""

    offered_mbps: Floats
    queue_mbit: Floats
    delay_ms: Floats
    jitter_ms: Floats
    slots: NDArray[np.int64]
    period_s: Floats
    alarm: NDArray[np.bool_]


_COUNTS = np.arange(CALENDAR_SLOTS + 1, dtype=np.float64)[:, None]
_CAPACITY = np.maximum(_COUNTS, 0.2) * SLOT_MBPS


def features(seen: Observation, limits: Limits, link: LinkModel) -> Features:
    """Feature rows (..., 21, 3, FEATURES): the same columns for each slot count and slice, all within -10..30."""
    lead = seen.slots.shape[:-1]
    out = np.empty((*lead, CALENDAR_SLOTS + 1, 3, FEATURES), dtype=np.float32)
    _cost_columns(out[..., 0:9], seen, limits, link)
    _load_columns(out[..., 9:19], seen, limits)
    _context_columns(out[..., 19:FEATURES], seen, limits)
    np.clip(out[..., 1:], -LIMIT, LIMIT, out=out[..., 1:])
    return out


def _cost_columns(out: Features, seen: Observation, limits: Limits, link: LinkModel) -> None:
    """Columns 0-8: predicted cost per slot count.

    Should the last load persist for two periods (0); of the coming period for four loads that may come (1-4); eq (3)'s
    terms and the price of broken limits for the first of these (5-8).
    """
    history = seen.offered_mbps
    last = history[..., -1, :]
    trend = last - history[..., -2, :]
    loads = np.stack([last, np.maximum(last + trend, 0.0), last * 1.3, history.max(axis=-2)])
    prediction = predict_table(loads, seen.queue_mbit[None], seen.period_s[None], link)
    objective, cost = cost_table(prediction, limits)
    # One period alone would call a backlog free that breaks the limits in the next one.
    period = np.asarray(seen.period_s)[..., None, None]
    later = predict(last[..., None, :], prediction.queue_mbit[0], ALL_SLOTS, period, link)
    _, cost_later = cost_table(later, limits)
    out[..., BASE] = np.minimum((cost[0] + cost_later) / 2, BASE_LIMIT)
    for column in range(4):
        out[..., column + 1] = np.log1p(cost[column])
    out[..., 5:8] = np.log1p(objective.terms[0])
    out[..., 8] = objective.violations[0].sum(axis=-1) * limits.violation_cost[..., None, :] / 5


def _load_columns(out: Features, seen: Observation, limits: Limits) -> None:
    """Columns 9-18: load history, its trend and the backlog against the capacity of each slot count; the move."""
    history = seen.offered_mbps
    for column, lag in enumerate(LAGS):
        ratio = (history[..., -lag, :][..., None, :] + 1.0) / _CAPACITY
        out[..., column] = np.clip(np.log2(ratio), -4.0, 4.0)
    for column, lag in ((5, 2), (6, 4)):
        change = (history[..., -1, :] - history[..., -lag, :])[..., None, :] / _CAPACITY
        out[..., column] = np.clip(change, -3.0, 3.0)
    drain = seen.queue_mbit[..., None, :] / (_CAPACITY * seen.period_s[..., None, None])
    out[..., 7] = np.minimum(drain, 5.0)
    change = _COUNTS - seen.slots[..., None, :]
    out[..., 8] = change / CALENDAR_SLOTS
    out[..., 9] = np.abs(change) * limits.slot_move_cost[..., None, None]


def _context_columns(out: Features, seen: Observation, limits: Limits) -> None:
    """Columns 19-35: slot count, slice, alarm, weights and prices, measured delay and jitter, whole link."""
    out[..., 0] = _COUNTS / CALENDAR_SLOTS
    out[..., 1:4] = np.eye(3)
    per_node = (
        seen.alarm,
        limits.shortfall,
        np.log10(seen.period_s / 0.1),
        limits.slot_move_cost * 10,
        (CALENDAR_SLOTS - seen.slots.sum(axis=-1)) / CALENDAR_SLOTS,
        seen.offered_mbps[..., -1, :].sum(axis=-1) / (CALENDAR_SLOTS * SLOT_MBPS),
        (seen.offered_mbps[..., -1, :].sum(axis=-1) - seen.offered_mbps[..., -2, :].sum(axis=-1)) / SLOT_MBPS,
    )
    for column, value in enumerate(per_node, start=4):
        out[..., column] = np.asarray(value)[..., None, None]
    per_slice = (
        limits.weights[..., 0],
        limits.weights[..., 1],
        limits.weights[..., 2],
        np.log1p(limits.violation_cost),
        np.log1p(seen.delay_ms / limits.d_max_ms),
        np.log1p(seen.jitter_ms / limits.j_max_ms),
    )
    for column, value in enumerate(per_slice, start=11):
        out[..., column] = np.asarray(value)[..., None, :]


def split_logits(scores: Features) -> NDArray[np.floating]:
    """Logits (..., 525) of all splits from scores (..., 21, 3)."""
    return sum_over_slices(scores)


def shielded(seen: Observation, limits: Limits, link: LinkModel, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the permitted splits (..., 525) those that should break neither D_max nor J_max if the last load persists.

    All permitted ones where every split breaks something: then the actor weighs who yields.
    """
    prediction = predict_table(seen.offered_mbps[..., -1, :], seen.queue_mbit, seen.period_s, link)
    late = prediction.delay_ms > limits.d_max_ms[..., None, :]
    unsteady = prediction.jitter_ms > limits.j_max_ms[..., None, :]
    kept = mask & (sum_over_slices((late | unsteady).astype(np.float32)) == 0)
    return np.asarray(np.where(kept.any(axis=-1, keepdims=True), kept, mask))


def choose(
    actor: Actor, seen: Observation, limits: Limits, link: LinkModel, mask: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Rows (...) of the permitted and shielded splits (..., 525) that the actor scores highest."""
    rows = features(seen, limits, link)
    scores = actor(rows.reshape(-1, FEATURES)).reshape(rows.shape[:-1])
    kept = shielded(seen, limits, link, mask)
    return np.asarray(np.argmax(np.where(kept, split_logits(scores), -np.inf), axis=-1))
