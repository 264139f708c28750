"""The trained actor: a row of features per slot count and slice, one score each, the best permitted sum wins.

Eq (3) and its constraints are separable over slices, so a split's logit is the sum of three scores: the network stays
tiny, sees the policy's weights and limits (it is conditioned on them), and every split has a probability. It starts
from what predict-and-enumerate would do (the expected cost under the forecast) and learns what that misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.forecast import Forecaster, Outlook, blended, foresee, scenarios
from xapps.slice_bandwidth.lattice import sum_over_slices
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, SLOT_MBPS, LinkModel
from xapps.slice_bandwidth.objective import Limits

__all__ = [
    "BASE", "BASE_LIMIT", "FEATURES", "LIMIT", "MOVE", "MOVE_WEIGHT", "Actor", "Learned", "Observation",
    "features", "scored", "split_logits",
]  # fmt: skip

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

FEATURES = 37
"""Columns of a feature row."""
BASE = 0
"""Column of the cost expected under the forecast: the actor starts from it."""
BASE_LIMIT = 30.0
MOVE, MOVE_WEIGHT = 14, 0.1
"""Column of the price of moving, and its weight in the prior: a slot that moved serves for some periods."""
LIMIT = 10.0
LOW, MIDDLE, HIGH = 0, 2, 5
"""Scenarios that the rows show one by one: quantiles 0.05, 0.45 and 0.95."""


class Actor(Protocol):
    """What scores feature rows: the ONNX session behind the app, or the network while it trains."""

    def __call__(self, rows: Features, /) -> Features:
        """Scores (R,) of feature rows (R, FEATURES)."""
        ...


@dataclass(frozen=True)
class Learned:
    """The two networks that mode `rl` needs; mode `oracle` needs the forecaster alone."""

    forecaster: Forecaster
    actor: Actor | None = None


@dataclass(frozen=True)
class Observation:
    """What is seen, for any leading axes (...): history (..., HISTORY, 3), others (..., 3), period and alarm (...)."""

    offered_mbps: Floats
    queue_mbit: Floats
    delay_ms: Floats
    jitter_ms: Floats
    slots: NDArray[np.int64]
    period_s: Floats
    alarm: NDArray[np.bool_]
    link: LinkModel
    """(..., 3): what the analytic queue takes the link for, after what was measured."""


_COUNTS = np.arange(CALENDAR_SLOTS + 1, dtype=np.float64)[:, None]
_CAPACITY = np.maximum(_COUNTS, 0.2) * SLOT_MBPS
_LOG_CAPACITY = np.log2(_CAPACITY)[..., None]
_SLICES = np.eye(3)


def features(seen: Observation, forecaster: Forecaster, limits: Limits) -> Features:
    """Feature rows (..., 21, 3, FEATURES): the same columns for each slot count and slice, all within -10..30."""
    lead = seen.slots.shape[:-1]
    loads = scenarios(forecaster, seen.offered_mbps, seen.period_s, seen.alarm)
    outlook = foresee(loads, seen.queue_mbit, seen.period_s, limits, seen.link)
    out = np.empty((*lead, CALENDAR_SLOTS + 1, 3, FEATURES), dtype=np.float32)
    _outlook_columns(out[..., 0:8], outlook, limits)
    _load_columns(out[..., 8:15], seen, loads[0], limits)
    out[..., 15] = _COUNTS / CALENDAR_SLOTS
    out[..., 16:] = _context(seen, limits)[..., None, :, :]
    np.minimum(np.maximum(out[..., 1:], -LIMIT), LIMIT, out=out[..., 1:])
    return out


def _outlook_columns(out: Features, outlook: Outlook, limits: Limits) -> None:
    """Columns 0-7.

    Expected cost (0), of the coming period, later and after that (1-3), in a low and a high scenario (4-5); delay that
    the backlog left behind means against D_max, in the middle and the high scenario (6-7).
    """
    periods = outlook.expected()
    out[..., BASE] = np.minimum(blended(periods), BASE_LIMIT)
    for column, value in enumerate((*periods, outlook.cost[LOW], outlook.cost[HIGH]), start=1):
        out[..., column] = np.log1p(value)
    allowed = _CAPACITY * limits.d_max_ms[..., None, :] / 1e3
    for column, scenario in ((6, MIDDLE), (7, HIGH)):
        out[..., column] = np.minimum(outlook.queue_mbit[scenario] / allowed, 5.0)


def _load_columns(out: Features, seen: Observation, loads: Floats, limits: Limits) -> None:
    """Columns 8-14: last and coming load against the capacity of each slot count, backlog to drain; the move."""
    shown = np.stack((seen.offered_mbps[..., -1, :], loads[LOW], loads[MIDDLE], loads[HIGH]), axis=-1)
    ratio = np.log2(shown + 1.0)[..., None, :, :] - _LOG_CAPACITY
    out[..., 0:4] = np.minimum(np.maximum(ratio, -4.0), 4.0)
    drain = (seen.queue_mbit / seen.period_s[..., None])[..., None, :] / _CAPACITY
    out[..., 4] = np.minimum(drain, 5.0)
    change = _COUNTS - seen.slots[..., None, :]
    out[..., 5] = change / CALENDAR_SLOTS
    out[..., 6] = np.abs(change) * limits.slot_move_cost[..., None, None]


def _context(seen: Observation, limits: Limits) -> Features:
    """Columns 16-36 (..., 3, 21): slice, alarm, prices, whole link; weights, measured and assumed delays, prices."""
    out = np.empty((*seen.slots.shape, FEATURES - 16), dtype=np.float32)
    out[..., 0:3] = _SLICES
    last = seen.offered_mbps[..., -1, :]
    whole, before = last.sum(axis=-1), seen.offered_mbps[..., -2, :].sum(axis=-1)
    per_node = (
        seen.alarm,
        limits.shortfall,
        np.log10(seen.period_s / 0.1),
        limits.slot_move_cost * 10,
        (CALENDAR_SLOTS - seen.slots.sum(axis=-1)) / CALENDAR_SLOTS,
        whole / (CALENDAR_SLOTS * SLOT_MBPS),
        (whole - before) / SLOT_MBPS,
    )
    for column, value in enumerate(per_node, start=3):
        out[..., column] = value[..., None]
    out[..., 10:13] = limits.weights
    fraction = seen.offered_mbps[..., -4:, :].sum(axis=-2) / (4 * SLOT_MBPS)
    out[..., 13] = limits.violation_cost
    out[..., 14] = seen.delay_ms / limits.d_max_ms
    out[..., 15] = seen.jitter_ms / limits.j_max_ms
    out[..., 16] = limits.weights[..., 2] * SLOT_MBPS / limits.b_min_mbps
    out[..., 17] = 1e3 * limits.weights[..., 0] / limits.d_max_ms
    out[..., 18] = seen.link.base_delay_ms / limits.d_max_ms
    out[..., 13:19] = np.log1p(out[..., 13:19])
    out[..., 19] = np.log(seen.link.burst_mbit)
    out[..., 20] = fraction - np.floor(fraction)
    return out


def split_logits(scores: Features) -> NDArray[np.floating]:
    """Logits (..., 525) of all splits from scores (..., 21, 3)."""
    return sum_over_slices(scores)


def scored(learned: Learned, seen: Observation, limits: Limits) -> NDArray[np.floating]:
    """The actor's logit (..., 525) of every split. Raises TypeError without an actor."""
    if learned.actor is None:
        raise TypeError("an actor is needed to score")
    rows = features(seen, learned.forecaster, limits)
    return split_logits(learned.actor(rows.reshape(-1, FEATURES)).reshape(rows.shape[:-1]))
