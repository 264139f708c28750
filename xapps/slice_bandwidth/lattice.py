"""The FlexE lattice: every split of 20 slots that granularities allow, and which of them a policy permits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import lattice_kernels
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, SLOT_STEP
from xapps.slice_bandwidth.policy import SlicePolicy

__all__ = [
    "SPLITS", "Bounds", "bounds_of", "index_of", "is_urgent", "nearest_split", "nearness",
    "permitted", "permitted_of", "sum_over_slices",
]  # fmt: skip

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def _splits() -> Ints:
    axes = [np.arange(step, CALENDAR_SLOTS + 1, step) for step in SLOT_STEP]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[grid.sum(axis=1) <= CALENDAR_SLOTS])


SPLITS: Ints = _splits()
"""(525, 3): slots of control, protection, monitoring; at least one granule each, sums of at most 20."""

_INDEX = {tuple(int(n) for n in split): row for row, split in enumerate(SPLITS)}


def index_of(slots: Ints) -> int:
    """Row of a split in `SPLITS`. Raises KeyError for slots that are not on the lattice."""
    return _INDEX[(int(slots[0]), int(slots[1]), int(slots[2]))]


class Bounds:
    """Least and most slots per slice (..., 3) and most slots that may change hands (...)."""

    __slots__ = ("high", "inside", "low", "max_moved")

    def __init__(self, low: Ints, high: Ints, max_moved: Ints) -> None:
        self.low, self.high, self.max_moved = low, high, max_moved
        above = (low[..., None, :] <= SPLITS).all(axis=-1)
        both = above & (high[..., None, :] >= SPLITS).all(axis=-1)
        # Two valid policies laid over each other can leave nothing: then ceilings give way first, floors next.
        kept = np.where(both.any(axis=-1, keepdims=True), both, above)
        self.inside: Mask = np.where(kept.any(axis=-1, keepdims=True), kept, True)


@lru_cache(maxsize=64)
def bounds_of(policy: SlicePolicy, alarm: bool) -> Bounds:
    """The bounds under `policy`, with alarm floors when `alarm`."""
    low = np.array(policy.minimum_slots(alarm=alarm))
    high = np.array([terms.ceiling_slots for terms in policy.terms])
    return Bounds(low, high, np.array(policy.max_moved_slots))


def permitted(bounds: Bounds, slots: Ints, *, limit_moves: bool = True) -> Mask:
    """Splits (..., 525) inside `bounds` and, where that leaves any, within the rate limit of `slots` (..., 3).

    Never empty: the rate limit gives way when no split inside the bounds is that near.
    """
    if not limit_moves:
        return bounds.inside
    return np.asarray(lattice_kernels.near(slots, SPLITS, bounds.inside, bounds.max_moved))


def is_urgent(bounds: Bounds, slots: Ints, *, alarm: bool) -> bool:
    """True while an alarm's floors do not hold yet: then the rate limit must not delay them."""
    return alarm and bool((slots < bounds.low).any())


def permitted_of(policy: SlicePolicy, slots: Ints, *, alarm: bool) -> Mask:
    """Splits (525,) that `policy` permits from `slots` (3,); alarms override the rate limit until their floors hold."""
    bounds = bounds_of(policy, alarm)
    return permitted(bounds, slots, limit_moves=not is_urgent(bounds, slots, alarm=alarm))


def nearness(wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Preference (..., 525) for splits close to `wanted` (..., 3) slots; at equal distance fewer slots win."""
    return np.asarray(-((SPLITS - wanted[..., None, :]) ** 2).sum(axis=-1) - 1e-6 * SPLITS.sum(axis=1))


def nearest_split(wanted: NDArray[np.float64], mask: Mask) -> NDArray[np.intp]:
    """Rows (...) of the permitted splits closest to `wanted` (..., 3) slots."""
    return np.asarray(np.argmax(np.where(mask, nearness(wanted), -np.inf), axis=-1))


def sum_over_slices(table: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values per split (..., 525) of a separable quantity given per slot count and slice (..., 21, 3)."""
    return np.asarray(lattice_kernels.sums_of(table, SPLITS))
