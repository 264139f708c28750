"""What the link does beside queueing, learned from KPM: base delay and burst size per slice, corrected every period.

The analytic queue takes both as given. Terminals that report at the same instants, encryption, another TSN schedule or
a link that nodes share make them others than assumed, and a controller that does not notice grants too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.model import LinkModel

__all__ = ["Served", "calibrated"]

Floats = NDArray[np.float64]

RATE = 0.2
"""Share of the way to what one period's measurement says; of 0.1 to 0.5, up and down apart, among the best on the
simulator with seeds of their own, and the one that breaks fewest limits."""
LONGEST_MS = 1_000.0


@dataclass(frozen=True)
class Served:
    """One finished period, (..., 3) each: load [Mb/s], backlog at its start [Mbit], slots in force, what was measured.

    `period_s` (..., 1) or one number [s]; delay and jitter [ms] as KPM has them.
    """

    offered_mbps: Floats
    queue_mbit: Floats
    slots: NDArray[np.int64]
    period_s: Floats | float
    delay_ms: Floats
    jitter_ms: Floats


def calibrated(link: LinkModel, served: Served) -> LinkModel:
    """`link` with base delay, burst and share in bursts (..., 3) nearer to what explains the period `served`.

    The burst is the one under which the analytic queue has the measured jitter, the base delay what is left of the
    measured delay. Where nothing is left, bursts at random instants explain too much delay for that jitter: then a part
    of the bits is taken to come in bursts in turn, which part and how large they are the two figures say together. All
    count for less where congestion made most of the jitter. Against: periods that the analytic queue itself made
    (tests), the simulator's queues.
    """
    burst, base_ms, in_step, trust = kernels.burst_of(
        served.offered_mbps, served.queue_mbit, served.slots, served.period_s, link.buffer_mbit, served.delay_ms,
        served.jitter_ms,
    )  # fmt: skip
    gain = RATE * trust
    base_ms = np.minimum(base_ms, LONGEST_MS)
    return LinkModel(
        link.base_delay_ms + gain * (base_ms - link.base_delay_ms),
        link.burst_mbit * np.exp(gain * np.log(burst / link.burst_mbit)),
        link.buffer_mbit,
        link.in_step + gain * (in_step - link.in_step),
    )
