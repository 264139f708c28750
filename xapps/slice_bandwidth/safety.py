"""The safety layer: what a controller wants, projected onto what the policy and the network-calculus bound permit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.forecast import MASSES, Forecaster, scenarios
from xapps.slice_bandwidth.lattice import SPLITS, Bounds, permitted, sum_over_slices
from xapps.slice_bandwidth.lattice_kernels import in_time
from xapps.slice_bandwidth.model import ALL_SLOTS, LinkModel
from xapps.slice_bandwidth.objective import Limits
from xapps.slice_bandwidth.rl_agent import Observation

__all__ = [
    "BOUND", "BUDGET", "FLOORS", "LONGEST_S", "RATE", "Secured", "bounded", "delay_bound_ms", "in_budget",
    "layers_of", "secured",
]  # fmt: skip

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLOORS, RATE, BOUND, BUDGET = "FLOOR_OR_CEILING", "RATE_LIMIT", "DELAY_BOUND", "DELAY_BUDGET"
"""Names of the layers, in order: what an override is logged and counted under."""

BUDGET_SLACK, MOST_BEYOND = 0.1, 3.0
"""Priced overshoot of packet delay budgets that a split may have beyond the least [1, on eq (3)'s scale], and the most
that one slice under one load counts with [1]: what is lost anyway takes nothing from the others. Chosen on tuning
seeds (ADR 0056)."""

LONGEST_S = 1.0
"""Longest period [s] of the Near-RT loop: beyond it the last load is not taken to persist."""


@dataclass(frozen=True)
class Secured:
    """The split chosen (row of `SPLITS`) and the layers that changed the controller's choice."""

    row: int
    overrides: tuple[str, ...]


def delay_bound_ms(offered_mbps: Floats, queue_mbit: Floats, period_s: Floats | float, link: LinkModel) -> Floats:
    """Bound of the period's mean delay (..., 21, 3) [ms] for 0..20 slots, should the load (..., 3) [Mb/s] persist.

    Network calculus: arrivals under burst + rate t (token bucket), service R (t - T) (rate-latency). D_max limits the
    mean over what arrives: while rate < R no busy period's mean backlog exceeds burst / (1 + sqrt(1 - rate / R)), half
    a burst on an empty link and all of it on a full one; the backlog at hand and, at rates above R, half of what the
    period adds come on top. The buffer does not bound it: what a full buffer drops never arrives. Against: busy
    periods of all lengths and the simulator's queues (tests).
    """
    period = np.asarray(period_s, dtype=np.float64)[..., None, None]
    held = link.per_slot()
    offered, queue = offered_mbps[..., None, :], queue_mbit[..., None, :]
    return np.asarray(kernels.bound_of(offered, queue, ALL_SLOTS, period, held.base_delay_ms, held.burst_mbit))


def bounded(
    offered_mbps: Floats, queue_mbit: Floats, period_s: Floats, limits: Limits, link: LinkModel, mask: Mask
) -> Mask:
    """Of the permitted splits (..., 525) those whose delay bound is within D_max.

    The load (..., 3) is taken to persist, which says too little beyond the Near-RT loop: with periods over
    `LONGEST_S` all permitted ones are kept, and so they are where every split breaks something: then the controller
    weighs who yields. J_max has no bound of that kind: it is priced, not projected.
    """
    kept = in_time(
        offered_mbps, queue_mbit, period_s, limits.d_max_ms, link.base_delay_ms, link.burst_mbit, SPLITS, mask,
        LONGEST_S,
    )  # fmt: skip
    return np.asarray(kept)


def in_budget(seen: Observation, forecaster: Forecaster, limits: Limits, mask: Mask) -> Mask:
    """Of the permitted splits (..., 525) those that keep packet delay budgets about as well as any.

    Judged by the longest delay of the coming period under every load that `forecaster` thinks possible: how far it is
    expected beyond the budget, relative to it and at most `MOST_BEYOND`, times the price of a broken limit, summed over
    slices. Up to `BUDGET_SLACK` more than the least is kept, so that small risks do not hold slots. The bursts of the
    link are left out: slots in reserve are for loads that rise. All are kept where no slice has a budget, and with
    periods beyond `LONGEST_S`.
    """
    if not np.isfinite(limits.budget_ms).any():
        return mask
    loads = np.moveaxis(scenarios(forecaster, seen.offered_mbps, seen.period_s, seen.alarm)[0], 0, -1)
    period_s = np.asarray(seen.period_s)
    per_slot = kernels.overshoot_of(
        loads[..., None, :, :], MASSES, seen.queue_mbit[..., None, :], ALL_SLOTS, period_s[..., None, None],
        seen.link.per_slot().base_delay_ms, limits.budget_ms[..., None, :], MOST_BEYOND,
    )  # fmt: skip
    over = sum_over_slices(limits.violation_cost[..., None, :] * per_slot)
    least = np.where(mask, over, np.inf).min(axis=-1, keepdims=True)
    return np.asarray(mask & ((over <= least + BUDGET_SLACK) | (period_s[..., None] > LONGEST_S)))


def layers_of(bounds: Bounds, slots: NDArray[np.int64], *, urgent: bool) -> list[tuple[str, Mask]]:
    """The layers of a policy for one node: floors and ceilings, then the rate limit, which an urgent alarm lifts."""
    return [(FLOORS, bounds.inside), (RATE, permitted(bounds, slots, limit_moves=not urgent))]


def secured(preference: NDArray[np.floating], layers: Sequence[tuple[str, Mask]]) -> Secured:
    """The split of most `preference` (525,) that the last of the nested `layers` permits, and which layers mattered.

    A controller prefers by its own measure (a logit, minus a cost, minus the distance to what it wants), so this is
    the projection to the nearest permitted split in that measure.
    """
    row, overrides = int(np.argmax(preference)), []
    for name, mask in layers:
        if not mask[row]:
            row = int(np.argmax(np.where(mask, preference, -np.inf)))
            overrides.append(name)
    return Secured(row, tuple(overrides))
