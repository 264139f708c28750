"""Policies of many environments at once: the default one, a given one, or drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xapps.slice_bandwidth.lattice import Bounds
from xapps.slice_bandwidth.model import SLOT_MBPS, SLOT_STEP
from xapps.slice_bandwidth.objective import Limits, limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.traffic import Draws

__all__ = ["PolicyBatch", "default_policies", "draw_policies", "policies_like"]


@dataclass(frozen=True)
class PolicyBatch:
    """One policy per environment (N): its limits, and the bounds without and with an alarm."""

    limits: Limits
    quiet: Bounds
    alarmed: Bounds


def default_policies(number: int) -> PolicyBatch:
    """The default policy for every environment."""
    return policies_like(SlicePolicy(), number)


def policies_like(policy: SlicePolicy, number: int) -> PolicyBatch:
    """`policy` for every environment."""
    one = limits_of(policy)
    stacked = {name: np.repeat(np.asarray(value)[None], number, axis=0) for name, value in vars(one).items()}
    bounds = []
    for alarm in (False, True):
        low = np.array(policy.minimum_slots(alarm=alarm))
        high = np.array([terms.ceiling_slots for terms in policy.terms])
        moved = np.full(number, policy.max_moved_slots)
        bounds.append(Bounds(np.tile(low, (number, 1)), np.tile(high, (number, 1)), moved))
    return PolicyBatch(Limits(**stacked), *bounds)


@dataclass(frozen=True)
class _Breadth:
    """How far draws go: share of default policies, concentration of the weights, widest factor on limits and prices."""

    default_share: float
    weights: tuple[float, float, float]
    widest: float


BREADTHS = {
    Draws.KNOWN: _Breadth(0.4, (1.5, 1.0, 1.0), 2.5),
    Draws.WIDE: _Breadth(0.2, (0.5, 0.5, 0.5), 3.5),
    Draws.UNSEEN: _Breadth(0.0, (0.4, 0.4, 0.4), 4.0),
}


def draw_policies(generator: np.random.Generator, number: int, draws: Draws = Draws.KNOWN) -> PolicyBatch:
    """Policies over the ranges that operators use, some of them the default.

    `UNSEEN` goes beyond what training draws: no defaults, weights near the corners of the simplex, limits and prices
    further from the defaults.
    """
    base, breadth = default_policies(number), BREADTHS[draws]
    keep = generator.random(number) < breadth.default_share
    weights = generator.dirichlet(breadth.weights, size=(number, 3))
    widest = breadth.widest
    spread = np.exp(generator.uniform(-np.log(widest), np.log(widest), size=(4, number, 3)))
    minimum = generator.integers(1, 4, size=(number, 3)) * SLOT_STEP
    limits = base.limits
    drawn = Limits(
        np.where(keep[:, None, None], limits.weights, weights),
        np.where(keep[:, None], limits.d_max_ms, limits.d_max_ms * spread[0]),
        np.where(keep[:, None], limits.j_max_ms, limits.j_max_ms * spread[1]),
        np.where(keep[:, None], limits.b_min_mbps, minimum * SLOT_MBPS),
        np.where(keep[:, None], limits.violation_cost, limits.violation_cost * spread[3]),
        ~keep & (generator.random(number) < 0.3),
        np.where(keep, limits.slot_move_cost, generator.uniform(0.0, 0.2, number)),
        limits.budget_ms,
    )
    low = np.where(keep[:, None], base.quiet.low, minimum)
    floors = generator.integers(0, 5, size=(number, 3)) * SLOT_STEP * np.array([1, 1, 0])
    alarm_low = np.where(keep[:, None], base.alarmed.low, np.maximum(low, floors))
    moved = np.where(keep, base.quiet.max_moved, generator.integers(3, 21, number))
    return PolicyBatch(drawn, Bounds(low, base.quiet.high, moved), Bounds(alarm_low, base.quiet.high, moved))
