"""Eq (3) of the distribution-automation paper, its hard constraints and the cost that decisions are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import kernels
from xapps.slice_bandwidth.kernels import TERM_LIMIT
from xapps.slice_bandwidth.model import ALL_SLOTS, Prediction
from xapps.slice_bandwidth.policy import SlicePolicy, ThirdTerm

__all__ = [
    "TERM_LIMIT", "Limits", "Objective", "cost_table", "evaluate", "limits_of", "moved_slots", "price", "priced_table",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """A policy as arrays; leading axes (...) hold one policy per environment where there are many."""

    weights: Floats
    """(..., 3, 3): alpha, beta, gamma (last axis) per slice, rows sum to 1."""
    d_max_ms: Floats
    j_max_ms: Floats
    b_min_mbps: Floats
    violation_cost: Floats
    """(..., 3) each."""
    shortfall: NDArray[np.bool_]
    """(...): True where the third term is B_min / B."""
    slot_move_cost: Floats
    """(...) [1 per slot]."""
    budget_ms: Floats
    """(..., 3): packet delay budgets, infinite where there is none; eq (3) does not know them."""


@lru_cache(maxsize=32)
def limits_of(policy: SlicePolicy) -> Limits:
    """The arrays of one policy, without leading axes."""
    weights = np.array([(t.alpha, t.beta, t.gamma) for t in policy.terms])
    return Limits(
        weights=weights / weights.sum(axis=1, keepdims=True),
        d_max_ms=np.array([t.d_max_ms for t in policy.terms]),
        j_max_ms=np.array([t.j_max_ms for t in policy.terms]),
        b_min_mbps=np.array([t.b_min_mbps for t in policy.terms]),
        violation_cost=np.array([t.violation_cost for t in policy.terms]),
        shortfall=np.array(policy.third_term is ThirdTerm.SHORTFALL),
        slot_move_cost=np.array(policy.slot_move_cost),
        budget_ms=np.array(
            [np.inf if t.packet_delay_budget_ms is None else t.packet_delay_budget_ms for t in policy.terms]
        ),
    )


@dataclass(frozen=True)
class Objective:
    """Eq (3) taken apart: terms (..., 3 slices, 3) = delay, jitter, third; violations (..., 3, 3) = D, J, B."""

    terms: Floats
    violations: NDArray[np.bool_]

    @property
    def total(self) -> Floats:
        """Eq (3) (...)."""
        return np.asarray(self.terms.sum(axis=(-1, -2)))

    @property
    def violation_count(self) -> NDArray[np.int64]:
        """Broken limits (...)."""
        return np.asarray(self.violations.sum(axis=(-1, -2)))

    def penalty(self, limits: Limits) -> Floats:
        """Price of the broken limits (...)."""
        return np.asarray((self.violations.sum(axis=-1) * limits.violation_cost).sum(axis=-1))


def evaluate(got: Prediction, slots: NDArray[np.int64], limits: Limits) -> Objective:
    """Eq (3): alpha D/D_max + beta J/J_max + gamma B/B_min per slice (or gamma B_min/B, see `Limits.shortfall`).

    `got` (..., 3) was measured or predicted under `slots` (..., 3); B is what they grant, 5,000 Mb/s per slot. The
    third term of the literal form grows with B: it prices capacity, so D <= D_max, J <= J_max and B >= B_min are
    constraints, and the ones that do not hold are counted, never folded into the terms. Traffic that a full buffer
    drops never arrives: a period that loses any has broken D_max (ADR 0053).
    """
    return Objective(
        *kernels.terms_of(
            got.delay_ms, got.jitter_ms, got.lost_mbit, slots, limits.weights, limits.d_max_ms, limits.j_max_ms,
            limits.b_min_mbps, limits.shortfall[..., None],
        )
    )  # fmt: skip


def _per_slot(limits: Limits) -> Limits:
    """The same limits with an axis for the slot count before the slices."""
    return Limits(
        limits.weights[..., None, :, :], limits.d_max_ms[..., None, :], limits.j_max_ms[..., None, :],
        limits.b_min_mbps[..., None, :], limits.violation_cost[..., None, :], limits.shortfall[..., None],
        limits.slot_move_cost, limits.budget_ms[..., None, :],
    )  # fmt: skip


def cost_table(prediction: Prediction, limits: Limits) -> tuple[Objective, Floats]:
    """Eq (3) per slot count and slice, and its sum with the price of broken limits (..., 21, 3).

    `prediction` is of :func:`model.predict_table`. Eq (3) and the constraints are separable, so the cost of a split is
    the sum of three entries.
    """
    objective = evaluate(prediction, ALL_SLOTS, _per_slot(limits))
    penalty = objective.violations.sum(axis=-1) * limits.violation_cost[..., None, :]
    return objective, objective.terms.sum(axis=-1) + penalty


def price(got: Prediction, slots: NDArray[np.int64], limits: Limits) -> Floats:
    """Eq (3) and the price of broken limits per slice (..., 3), each delay and jitter term cut at `TERM_LIMIT`."""
    return np.asarray(
        kernels.priced(
            got.delay_ms, got.jitter_ms, got.lost_mbit, slots, limits.weights, limits.d_max_ms, limits.j_max_ms,
            limits.b_min_mbps, limits.violation_cost, limits.shortfall[..., None],
        )
    )  # fmt: skip


def priced_table(prediction: Prediction, limits: Limits) -> Floats:
    """Cost as :func:`cost_table` has it, but with :func:`price`'s cuts, as the reward has it."""
    return price(prediction, ALL_SLOTS, _per_slot(limits))


def moved_slots(before: NDArray[np.signedinteger], after: NDArray[np.signedinteger]) -> NDArray[np.int64]:
    """Slots that change hands (...): the larger of what slices gain and what they lose."""
    return np.asarray(kernels.moved_of(before, after))
