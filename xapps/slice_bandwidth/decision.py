"""One node's decision from state and policy: who decides, what it costs before and after, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ric.decision import Reason
from ric.errors import TwinRicError
from ric.scopes import Scope
from xapps.slice_bandwidth.baselines import Situation, gradient_transfer, predict_and_enumerate, static_split
from xapps.slice_bandwidth.lattice import SPLITS, bounds_of, is_urgent
from xapps.slice_bandwidth.model import SLICES, LinkModel, predict
from xapps.slice_bandwidth.objective import Objective, evaluate, limits_of, moved_slots
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned, Observation, scored
from xapps.slice_bandwidth.safety import BOUND, LONGEST_S, Secured, bounded, layers_of, secured
from xapps.slice_bandwidth.state import FleetState, SliceState

__all__ = ["FleetDecision", "NodeDecision", "decide", "decide_fleet", "explained", "fleet_decision", "is_protected"]

Floats = NDArray[np.float64]

CODES = {
    Mode.RL: "RL_ACTOR",
    Mode.GRADIENT: "GRADIENT_TRANSFER",
    Mode.ORACLE: "PREDICT_AND_ENUMERATE",
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
    overrides: tuple[str, ...] = ()
    """Layers of the safety layer that changed the controller's choice."""

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


def decide(state: SliceState, policy: SlicePolicy, learned: Learned | None, link: LinkModel) -> NodeDecision:
    """The split that the policy's mode prefers most, secured by the safety layer.

    Source: eq (3) of the distribution-automation paper on the FlexE lattice. Always on the lattice and within floors,
    bandwidth minima, ceilings and, unless a fault alarm overrides it, the rate limit; in modes `rl` and `oracle` within
    the network-calculus bound where a split is. `details["overrides"]` names the layers that changed the choice. Raises
    TwinRicError MODEL-MISSING in mode `rl` without an actor and in mode `oracle` without a forecaster.
    """
    policy = policy.at(Scope(e2_node_id=state.e2_node_id))
    alarm = is_protected(state, policy)
    chosen = _secured(state, policy, _preference(state, policy, learned, link), link, alarm=alarm)
    code = PROTECTION_FIRST if alarm else CODES[deciding_mode(policy.mode, state.period_s)]
    made = explained(state, policy, link, SPLITS[chosen.row], code)
    if not chosen.overrides:
        return made
    details = {**made.reason.details, "overrides": ",".join(chosen.overrides)}
    return replace(made, reason=Reason(code, made.reason.numbers, details), overrides=chosen.overrides)


def deciding_mode(mode: Mode, period_s: float) -> Mode:
    """Who decides at that period: the actor is for the Near-RT loop, beyond it forecast and enumeration stand in."""
    return Mode.ORACLE if mode is Mode.RL and period_s > LONGEST_S else mode


def _preference(
    state: SliceState, policy: SlicePolicy, learned: Learned | None, link: LinkModel
) -> NDArray[np.floating]:
    """How much the policy's mode prefers each split (525,)."""
    mode = deciding_mode(policy.mode, state.period_s)
    if mode is Mode.STATIC:
        return static_split()
    limits = limits_of(policy)
    if mode is Mode.GRADIENT:
        return gradient_transfer(situation_of(state), limits, link)
    if learned is None or (mode is Mode.RL and learned.actor is None):
        name = "actor" if mode is Mode.RL else "forecaster"
        raise TwinRicError("MODEL-MISSING", name, None, f"a loaded {name}", "Run the app's train.py.")
    seen = Observation(
        state.offered_mbps, state.queue_mbit, state.delay_ms, state.jitter_ms, state.slots,
        np.asarray(state.period_s), np.asarray(is_protected(state, policy)),
    )  # fmt: skip
    if mode is Mode.RL:
        return scored(learned, seen, limits, link)
    return predict_and_enumerate(seen, learned.forecaster, limits, link)


def _secured(
    state: SliceState, policy: SlicePolicy, preference: NDArray[np.floating], link: LinkModel, *, alarm: bool
) -> Secured:
    bounds = bounds_of(policy, alarm)
    layers = layers_of(bounds, state.slots, urgent=is_urgent(bounds, state.slots, alarm=alarm))
    if policy.mode in (Mode.RL, Mode.ORACLE):
        load, period_s = state.offered_mbps[-1], np.asarray(state.period_s)
        mask = bounded(load, state.queue_mbit, period_s, limits_of(policy), link, layers[-1][1])
        layers.append((BOUND, mask))
    return secured(preference, layers)


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


def decide_fleet(fleet: FleetState, policy: SlicePolicy, learned: Learned | None, link: LinkModel) -> FleetDecision:
    """Decisions for the nodes that are due. Raises what :func:`decide` raises."""
    due = [node for node in fleet.nodes if node.e2_node_id in fleet.due]
    return fleet_decision([decide(node, policy, learned, link) for node in due])


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
