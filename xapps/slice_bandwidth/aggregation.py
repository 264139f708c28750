"""The link that several nodes share behind their own: its fluid at period means, and what is known of it from KPM.

Slices pass in strict priority (control, protection, monitoring), as ADR 0024 has it; within a slice all nodes wait
alike. There is nothing to set on it: a node relieves it by granting itself less. Written apart from the simulator's; a
component test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import joint_kernels as kernels
from xapps.slice_bandwidth.model import Prediction, capacity_mbps

__all__ = ["SharedWait", "observed", "pass_link", "passed_mbit", "waited", "without_wait"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SharedWait:
    """What the shared link adds to each slice of all its nodes (..., 3), the backlog [Mbit] that it keeps, and the
    share of what came that it drops.
    """

    mean_ms: Floats
    variance_ms2: Floats
    queue_mbit: Floats
    lost_share: Floats


def pass_link(
    arriving_mbit: Floats, queue_mbit: Floats, capacity_mbps: Floats | float, period_s: Floats | float,
    buffer_mbit: float,
) -> SharedWait:  # fmt: skip
    """One period of a shared link: volumes (..., 3) that its nodes let through together, backlogs (..., 3) before.

    capacity_mbps and period_s (...). A fluid per slice at the rate that the slices before it leave; waits below
    saturation are left out. What exceeds `buffer_mbit` together is lost, the last slice's first.
    """
    return SharedWait(*kernels.passed_over(arriving_mbit, queue_mbit, capacity_mbps, period_s, buffer_mbit))


def observed(wait: SharedWait, delay_ms: Floats, passed: Floats) -> SharedWait:
    """`wait` (..., 3) cut to what delays and volumes of the link's nodes (..., M, 3) leave possible.

    A node that let something through and measured less than the wait proves the backlog to be smaller: the link is
    faster than was said, or has had an hour to rest. Volumes alone would never notice.
    """
    least = np.where(passed > 0, delay_ms, np.inf).min(axis=-2)
    share = np.clip(least / np.maximum(wait.mean_ms, 1e-9), 0.0, 1.0)
    return SharedWait(wait.mean_ms * share, wait.variance_ms2 * share**2, wait.queue_mbit * share, wait.lost_share)


def waited(own: Prediction, wait: SharedWait, passed: Floats) -> Prediction:
    """`own` of nodes (..., 3) that let `passed` (..., 3) [Mbit] through, with what the shared link adds and drops."""
    jitter = np.sqrt(own.jitter_ms**2 + wait.variance_ms2)
    return Prediction(own.delay_ms + wait.mean_ms, jitter, own.queue_mbit, own.lost_mbit + wait.lost_share * passed)


def without_wait(delay_ms: Floats, jitter_ms: Floats, wait: SharedWait) -> tuple[Floats, Floats]:
    """What of a measured delay and jitter (..., 3) [ms] is the node's own link's."""
    jitter = np.sqrt(np.maximum(jitter_ms * jitter_ms - wait.variance_ms2, 0.0))
    return np.maximum(delay_ms - wait.mean_ms, 0.0), np.where(wait.variance_ms2 > 0, jitter, jitter_ms)


def passed_mbit(
    offered_mbps: Floats, before_mbit: Floats, after_mbit: Floats, slots: NDArray[np.int64], period_s: Floats | float
) -> Floats:
    """Volume (..., 3) [Mbit] that leaves a queue in a period, from its backlogs before and after; drops stay out."""
    gone = offered_mbps * period_s + before_mbit - after_mbit
    return np.asarray(np.clip(gone, 0.0, capacity_mbps(slots) * period_s))
