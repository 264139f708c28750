"""Cells of a node and the physical resource blocks (PRB) that its slices use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cell", "prb_used", "radio_mbps"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """An NR cell: `prb` blocks that carry `mbps_per_prb` [Mb/s] each, over all layers; `nr_slot_us` its slot [us]."""

    nr_cgi: str
    prb: int
    mbps_per_prb: float
    nr_slot_us: float = 125.0


def radio_mbps(cells: Sequence[Cell]) -> float:
    """What the cells carry together [Mb/s]."""
    return sum(cell.prb * cell.mbps_per_prb for cell in cells)


def prb_used(cells: Sequence[Cell], delivered_mbps: Floats) -> Floats:
    """Mean blocks (S,) in use for `delivered_mbps` (S,) [Mb/s]; traffic spreads over the cells by what they carry."""
    total_prb = sum(cell.prb for cell in cells)
    return np.asarray(np.minimum(delivered_mbps / radio_mbps(cells), 1.0) * total_prb)
