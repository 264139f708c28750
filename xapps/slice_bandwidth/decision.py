"""One node's decision from state and policy: who decides, what it costs before and after, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ric.decision import Reason
from ric.errors import TwinRicError
from xapps.slice_bandwidth.baselines import Situation, gradient_transfer, myopic_oracle, static_split
from xapps.slice_bandwidth.lattice import SPLITS, permitted_of
from xapps.slice_bandwidth.model import SLICES, LinkModel, predict
from xapps.slice_bandwidth.objective import Objective, evaluate, limits_of, moved_slots
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Actor, Observation, choose
from xapps.slice_bandwidth.state import FleetState, SliceState

__all__ = ["FleetDecision", "NodeDecision", "decide", "decide_fleet", "explained", "fleet_decision", "is_protected"]

Floats = NDArray[np.float64]

CODES = {
    Mode.RL: "RL_ACTOR",
    Mode.GRADIENT: "GRADIENT_TRANSFER",
    Mode.ORACLE: "MYOPIC_OPTIMUM",
    Mode.STATIC: "STATIC_SPLIT",
}
PROTECTION_FIRST = "PROTECTION_FIRST"
TERMS = ("delay_term", "jitter_term", "bandwidth_term")


@dataclass(frozen=True)
class NodeDecision:
    """Slots (3,) for one node, those in force before, eq (3) of both at the last load, and why."""

    e2_node_id: str
    source_time_ns: int
    slots: NDArray[np.int64]
    slots_before: NDArray[np.int64]
    before: Objective
    after: Objective
    reason: Reason
    state: SliceState

    @property
    def changed(self) -> bool:
        """True when the split in force must be changed."""
        return not np.array_equal(self.slots, self.slots_before)


@dataclass(frozen=True)
class FleetDecision:
    """The decisions of one cycle, and one reason for all of them."""

    nodes: tuple[NodeDecision, ...]
    source_time_ns: int
    reason: Reason


def is_protected(state: SliceState, policy: SlicePolicy) -> bool:
    """True while a fault alarm is active and until it has been clear for `policy.alarm_hold_s`."""
    return state.alarm_active or state.alarm_cleared_s < policy.alarm_hold_s


def decide(state: SliceState, policy: SlicePolicy, actor: Actor | None, link: LinkModel) -> NodeDecision:
    """The permitted split that the policy's mode chooses.

    Source: eq (3) of the distribution-automation paper on the FlexE lattice. Always on the lattice and within floors,
    bandwidth minima, ceilings and, unless a fault alarm overrides it, the rate limit. Raises TwinRicError MODEL-MISSING
    in mode `rl` without an actor.
    """
    alarm = is_protected(state, policy)
    mask = permitted_of(policy, state.slots, alarm=alarm)
    row = _row(state, policy, actor, link, mask)
    code = PROTECTION_FIRST if alarm else CODES[policy.mode]
    return explained(state, policy, link, SPLITS[row], code)


def _row(state: SliceState, policy: SlicePolicy, actor: Actor | None, link: LinkModel, mask: NDArray[np.bool_]) -> int:
    limits = limits_of(policy)
    if policy.mode is Mode.STATIC:
        return int(static_split(mask))
    if policy.mode is Mode.RL:
        if actor is None:
            raise TwinRicError("MODEL-MISSING", "actor", None, "a loaded actor", "Run the app's train.py.")
        alarm = np.asarray(is_protected(state, policy))
        seen = Observation(
            state.offered_mbps, state.queue_mbit, state.delay_ms, state.jitter_ms, state.slots,
            np.asarray(state.period_s), alarm,
        )  # fmt: skip
        return int(choose(actor, seen, limits, link, mask))
    situation = situation_of(state)
    if policy.mode is Mode.GRADIENT:
        return int(gradient_transfer(situation, limits, link, mask))
    return int(myopic_oracle(situation, limits, link, mask))


def situation_of(state: SliceState) -> Situation:
    """The last load of a node, for the rules that look no further."""
    return Situation(state.offered_mbps[-1], state.queue_mbit, state.slots, np.asarray(state.period_s))


def explained(
    state: SliceState, policy: SlicePolicy, link: LinkModel, slots: NDArray[np.int64], code: str
) -> NodeDecision:
    """The decision for `slots` (3,), with eq (3) of the next period before and after, should the last load persist."""
    limits = limits_of(policy)
    both = np.stack([state.slots, slots])
    load, queue = state.offered_mbps[-1], state.queue_mbit
    prediction = predict(load, queue, both, state.period_s, link)
    whole = evaluate(prediction.delay_ms, prediction.jitter_ms, both, limits)
    before, after = (Objective(whole.terms[k], whole.violations[k]) for k in (0, 1))
    numbers = {
        "objective_before": float(before.total),
        "objective_after": float(after.total),
        "violations_before": float(before.violation_count),
        "violations_after": float(after.violation_count),
        "moved_slots": float(moved_slots(state.slots, slots)),
        "alarm": float(is_protected(state, policy)),
    }
    for when, objective, held in zip(("before", "after"), (before, after), both, strict=True):
        for name, number, terms in zip(SLICES, held.tolist(), objective.terms.tolist(), strict=True):
            numbers[f"{name}_flexe_slots_{when}"] = float(number)
            numbers |= {f"{name}_{term}_{when}": value for term, value in zip(TERMS, terms, strict=True)}
    for index, name in enumerate(SLICES):
        numbers[f"{name}_offered_mbps"] = float(load[index])
    details = {"mode": policy.mode.value, "third_term": policy.third_term.value, "e2_node_id": state.e2_node_id}
    reason = Reason(code, numbers, details)
    return NodeDecision(state.e2_node_id, state.source_time_ns, slots, state.slots, before, after, reason, state)


def decide_fleet(fleet: FleetState, policy: SlicePolicy, actor: Actor | None, link: LinkModel) -> FleetDecision:
    """Decisions for the nodes that are due. Raises what :func:`decide` raises."""
    return fleet_decision([decide(node, policy, actor, link) for node in fleet.nodes if node.e2_node_id in fleet.due])


def fleet_decision(nodes: Sequence[NodeDecision]) -> FleetDecision:
    """One reason for all: a single node's own; for several, their numbers under node names, the gravest code."""
    newest_ns = max((node.source_time_ns for node in nodes), default=0)
    if len(nodes) == 1:
        return FleetDecision(tuple(nodes), newest_ns, nodes[0].reason)
    codes = [node.reason.code for node in nodes]
    code = PROTECTION_FIRST if PROTECTION_FIRST in codes else (codes[0] if codes else "NO_NODE")
    numbers = {f"{node.e2_node_id}/{key}": value for node in nodes for key, value in node.reason.numbers.items()}
    totals = {
        key: sum(node.reason.numbers[key] for node in nodes)
        for key in ("objective_before", "objective_after", "violations_before", "violations_after", "moved_slots")
    }
    return FleetDecision(tuple(nodes), newest_ns, Reason(code, {**totals, **numbers}, {"nodes": str(len(nodes))}))
