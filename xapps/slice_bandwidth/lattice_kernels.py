"""Compiled: masks and sums over all splits of the lattice. `lattice.py` and `safety.py` say what they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.kernels import bound_ms, elementwise, moved_between
from xapps.slice_bandwidth.model import CALENDAR_SLOTS

__all__ = ["in_time", "near", "sums_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@elementwise(
    ["void(float32[:,:],int64[:,:],float32[:])", "void(float64[:,:],int64[:,:],float64[:])"], "(c,s),(n,s)->(n)"
)
def sums_of(table: NDArray[np.floating], splits: Ints, sums: NDArray[np.floating]) -> None:
    """See :func:`lattice.sum_over_slices`."""
    for n in range(splits.shape[0]):
        sums[n] = table[splits[n, 0], 0] + table[splits[n, 1], 1] + table[splits[n, 2], 2]


@elementwise(["void(int64[:],int64[:,:],boolean[:],int64,boolean[:])"], "(s),(n,s),(n),()->(n)")
def near(slots: Ints, splits: Ints, inside: Mask, most: int, mask: Mask) -> None:
    """See :func:`lattice.permitted`: of the splits `inside`, those within `most` slots moved, or all where none is."""
    some = False
    for n in range(splits.shape[0]):
        mask[n] = inside[n] and moved_between(slots, splits[n]) <= most
        some = some or mask[n]
    if not some:
        mask[:] = inside


@elementwise(
    ["void(float64[:],float64[:],float64,float64[:],float64[:],float64[:],int64[:,:],boolean[:],float64,boolean[:])"],
    "(s),(s),(),(s),(s),(s),(n,s),(n),()->(n)",
)
def in_time(
    offered: Floats, queue: Floats, period_s: float, d_max: Floats, base_ms: Floats, burst: Floats, splits: Ints,
    permitted: Mask, longest_s: float, mask: Mask,
) -> None:  # fmt: skip
    """See :func:`safety.bounded`: of the permitted splits those within D_max in every slice, or all where none is.

    So are they with periods beyond `longest_s`.
    """
    held = np.empty((CALENDAR_SLOTS + 1, 3), dtype=np.bool_)
    for slots in range(held.shape[0]):
        for k in range(3):
            held[slots, k] = bound_ms(offered[k], queue[k], slots, period_s, base_ms[k], burst[k]) <= d_max[k]
    some = False
    for n in range(splits.shape[0]):
        mask[n] = permitted[n] and held[splits[n, 0], 0] and held[splits[n, 1], 1] and held[splits[n, 2], 2]
        some = some or mask[n]
    if not some or period_s > longest_s:
        mask[:] = permitted
