"""The link that several nodes share behind their own, as training and evaluation see it: period means, first come.

Slices pass in strict priority (control, protection, monitoring), as ADR 0024 has it; within a slice all nodes wait
alike. There is nothing to set on it: a node relieves it by granting itself less. Written apart from the simulator's; a
component test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SharedWait", "pass_link"]

Floats = NDArray[np.float64]

LEAST_MBPS = 100.0
"""A slice that others leave nothing counts as served by this, so that its wait stays a number."""


@dataclass(frozen=True)
class SharedWait:
    """What the shared link adds to each slice of all its nodes (..., 3), and the backlog that it keeps [Mbit]."""

    mean_ms: Floats
    variance_ms2: Floats
    queue_mbit: Floats


def pass_link(
    arriving_mbit: Floats, queue_mbit: Floats, capacity_mbps: Floats, period_s: Floats, buffer_mbit: float
) -> SharedWait:
    """One period of a shared link: volumes (..., 3) that its nodes let through together, backlogs (..., 3) before.

    capacity_mbps and period_s (...). A fluid per slice at the rate that the slices before it leave; waits below
    saturation are left out. What exceeds `buffer_mbit` together is lost, the last slice's first.
    """
    wait = SharedWait(*(np.zeros(np.broadcast_shapes(arriving_mbit.shape, queue_mbit.shape)) for _ in range(3)))
    free = np.broadcast_to(capacity_mbps, wait.mean_ms.shape[:-1])
    room = np.full(wait.mean_ms.shape[:-1], buffer_mbit)
    for k in range(wait.mean_ms.shape[-1]):
        start, change = queue_mbit[..., k], arriving_mbit[..., k] - free * period_s
        end = np.maximum(start + change, 0.0)
        # It moves from start to end in a straight line for this share of the period, then stays.
        share = np.minimum(1.0, np.abs(end - start) / np.maximum(np.abs(change), 1e-9))
        mean = share * (start + end) / 2 + (1 - share) * end
        square = share * (start * start + start * end + end * end) / 3 + (1 - share) * end * end
        to_ms = 1e3 / np.maximum(free, LEAST_MBPS)
        wait.mean_ms[..., k] = mean * to_ms
        wait.variance_ms2[..., k] = np.maximum(square - mean * mean, 0.0) * to_ms * to_ms
        free = np.maximum(free - (start + arriving_mbit[..., k] - end) / period_s, 0.0)
        wait.queue_mbit[..., k] = np.minimum(end, room)
        room = room - wait.queue_mbit[..., k]
    return wait
