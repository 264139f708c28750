"""The trained actor: a row of features per slot count and slice, one score each, the best permitted sum wins.

Eq (3) and its constraints are separable over slices, so a split's logit is the sum of three scores: the network stays
tiny, sees the policy's weights and limits (it is conditioned on them), and every split has a probability. It starts
from what predict-and-enumerate would do (the expected cost under the forecast) and learns what that misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.feature_kernels import (
    BASE_LIMIT,
    FEATURES,
    LIMIT,
    NEWEST,
    Coming,
    Node,
    feature_rows,
)
from xapps.slice_bandwidth.forecast import (
    BLEND,
    HORIZONS,
    MASSES,
    Forecaster,
    flat,
    foreseen,
    links_of,
    scenarios,
    terms_of,
)
from xapps.slice_bandwidth.lattice import sum_over_slices
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, LinkModel
from xapps.slice_bandwidth.objective import Limits

__all__ = [
    "BASE", "BASE_LIMIT", "FEATURES", "LIMIT", "MOVE", "MOVE_WEIGHT", "Actor", "Learned", "Observation",
    "features", "scored", "split_logits",
]  # fmt: skip

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

BASE = 0
"""Column of the cost expected under the forecast: the actor starts from it."""
MOVE, MOVE_WEIGHT = 14, 0.1
"""Column of the price of moving, and its weight in the prior: a slot that moved serves for some periods."""


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
    alarm: Floats
    """(...): `NO_ALARM`, `OLD_ALARM` or `NEW_ALARM` of `model.py`."""
    link: LinkModel
    """(..., 3): what the analytic queue takes the link for, after what was measured."""


def features(seen: Observation, forecaster: Forecaster, limits: Limits) -> Features:
    """Feature rows (..., 21, 3, FEATURES): the same columns for each slot count and slice, all within -10..30.

    Column 0: expected cost; 1-3: of the coming period, later and after that; 4-5: of the coming period in a low and a
    high scenario; 6-7: delay that the backlog left behind means against D_max, in the middle and the high scenario.
    8-11: last load and coming one (low, middle, high) against the capacity, 12: backlog to drain; 13-15: slots moved,
    their price, slots. From 16 on what is the same for every slot count: slice (3); alarm, form of the third term,
    period, price of moves, slots to spare, load of the whole link and its rise; weights (3), violation cost, measured
    delay and jitter, terms of the third and of delay, base delay, burst, and what the mean load leaves of a slot.
    """
    lead = seen.slots.shape[:-1]
    number = math.prod(lead)
    loads = scenarios(forecaster, seen.offered_mbps, seen.period_s, seen.alarm).reshape(HORIZONS, -1, number, 3)
    node, terms = _node(seen, number), terms_of(limits, number)
    stages, left = foreseen(loads, node.queue_mbit, node.period_s, terms, node.links)
    out = np.empty((number, CALENDAR_SLOTS + 1, 3, FEATURES), dtype=np.float32)
    feature_rows(Coming(stages, left, loads, MASSES, _BLEND), node, terms, out)
    return out.reshape(*lead, *out.shape[1:])


_BLEND = np.array(BLEND)


def _node(seen: Observation, number: int) -> Node:
    values = (seen.queue_mbit, seen.delay_ms, seen.jitter_ms, seen.slots)
    queue, delay, jitter, slots = (flat(value, number, 3) for value in values)
    return Node(
        flat(seen.offered_mbps[..., -NEWEST:, :], number, NEWEST, 3), queue, delay, jitter, slots,
        flat(np.asarray(seen.period_s, dtype=np.float64), number), flat(np.asarray(seen.alarm), number),
        links_of(seen.link, number),
    )  # fmt: skip


def split_logits(scores: Features) -> NDArray[np.floating]:
    """Logits (..., 525) of all splits from scores (..., 21, 3)."""
    return sum_over_slices(scores)


def scored(learned: Learned, seen: Observation, limits: Limits) -> NDArray[np.floating]:
    """The actor's logit (..., 525) of every split. Raises TypeError without an actor."""
    if learned.actor is None:
        raise TypeError("an actor is needed to score")
    rows = features(seen, learned.forecaster, limits)
    return split_logits(learned.actor(rows.reshape(-1, FEATURES)).reshape(rows.shape[:-1]))
