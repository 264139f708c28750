"""A solution as a start for steps that begin elsewhere and have other lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.fleet import WarmStart

__all__ = ["regrid", "steps_of"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]


def steps_of(old_h: Floats, new_h: Floats) -> Ints:
    """(T,) the step between `old_h` (T + 1,) in which the middle of each one between `new_h` (T + 1,) lies."""
    middle = (new_h[:-1] + new_h[1:]) / 2
    return np.clip(np.searchsorted(old_h, middle, side="right") - 1, 0, old_h.size - 2)


def regrid(warm: WarmStart, old_h: Floats, new_h: Floats) -> WarmStart:
    """`warm`, found for steps with edges `old_h` (T + 1,) [h], as seen at edges `new_h` (T + 1,) on the same clock.

    Prices, multipliers and powers are those of the old step in which a new one's middle lies; states, which belong to
    the ends of steps, lie in between. Beyond the old horizon its last step is held.
    """
    of, ends = steps_of(old_h, new_h), np.clip(new_h[1:], old_h[0], old_h[-1])
    after = np.clip(np.searchsorted(old_h, ends) - 1, 0, old_h.size - 2)
    share = ((ends - old_h[after]) / (old_h[after + 1] - old_h[after])).astype(np.float32)
    longer = (np.diff(new_h) / np.diff(old_h)[of]).astype(np.float32)
    groups = {
        kinds: (rows, _iterates(iterates, of, after, share, longer)) for kinds, (rows, iterates) in warm.groups.items()
    }
    push = None if warm.push is None else regrid(warm.push, old_h, new_h)
    held = None if warm.held is None else warm.held.at(of)
    return replace(warm, groups=groups, price=warm.price[:, of], fleet_price=warm.fleet_price[of], push=push, held=held)


def _iterates(values: Singles, of: Ints, after: Ints, share: Singles, longer: Singles) -> Singles:
    """Iterates (N, rows, T): the price of a kW over the step, states and multipliers in turn, outlets."""
    result = np.take(values, of, axis=2)
    result[:, 0] *= longer
    storages = (values.shape[1] - 1) // 3
    for row in range(1, 1 + 2 * storages, 2):
        state = values[:, row]
        before = state[:, np.maximum(after - 1, 0)]
        result[:, row] = before + share * (state[:, after] - before)
    return result
