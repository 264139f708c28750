"""The safe action: eq (2) while the load is known, the static 25/50/25 split when it is not. Never fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ric.decision import Reason
from ric.scopes import Scope
from xapps.slice_bandwidth.baselines import gradient_transfer, static_split
from xapps.slice_bandwidth.decision import NodeDecision, explained, is_protected, situation_of
from xapps.slice_bandwidth.fleet import FleetDecision, fleet_decision
from xapps.slice_bandwidth.lattice import SPLITS, permitted_of
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import FleetState, SliceState

__all__ = ["fall_back", "fall_back_fleet"]

LOAD_UNKNOWN = frozenset({"STALE_INPUT"})
"""Reasons under which the last load must not be trusted."""


def fall_back(state: SliceState, policy: SlicePolicy, reason: Reason) -> NodeDecision:
    """Eq (2) from the last load, or the static split when the load is stale or no finite number.

    Alarm floors hold here too. The reason keeps the code of what went wrong; `safe_action` says what was done.
    """
    policy = policy.at(Scope(e2_node_id=state.e2_node_id))
    mask = permitted_of(policy, state.slots, alarm=is_protected(state, policy))
    known = bool(np.isfinite(state.offered_mbps[-1]).all() and np.isfinite(state.queue_mbit).all())
    if known and reason.code not in LOAD_UNKNOWN:
        preference, action = gradient_transfer(situation_of(state), limits_of(policy), state.link), "gradient_eq2"
    else:
        preference, action = static_split(), "static"
        zero = np.zeros(3)
        state = state if known else replace(state, offered_mbps=np.zeros_like(state.offered_mbps), queue_mbit=zero)
    row = int(np.argmax(np.where(mask, preference, -np.inf)))
    made = explained(state, policy, SPLITS[row], reason.code)
    numbers = {**made.reason.numbers, **reason.numbers}
    details = {**made.reason.details, **reason.details, "safe_action": action}
    return replace(made, reason=Reason(reason.code, numbers, details))


def fall_back_fleet(fleet: FleetState, policy: SlicePolicy, reason: Reason) -> FleetDecision:
    """The safe action for the nodes that are due, for all of them when input is stale."""
    stale = reason.code in LOAD_UNKNOWN
    made = fleet_decision(
        [fall_back(node, policy, reason) for node in fleet.nodes if stale or node.e2_node_id in fleet.due]
    )
    return replace(made, reason=replace(made.reason, code=reason.code))
