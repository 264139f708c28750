"""The decisions of one cycle: every node that is due by itself, then the nodes of each aggregation link together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ric.decision import Reason
from ric.scopes import Scope
from xapps.slice_bandwidth.decision import (
    PROTECTION_FIRST,
    NodeDecision,
    decide_nodes,
    deciding_mode,
    explained,
    is_protected,
    observed,
    stacked_limits,
)
from xapps.slice_bandwidth.forecast import scenarios
from xapps.slice_bandwidth.joint import (
    WORK,
    LinkView,
    Settled,
    foresee_nodes,
    helped,
    part_of,
    settled,
)
from xapps.slice_bandwidth.lattice import permitted_of
from xapps.slice_bandwidth.model import SLICES
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned
from xapps.slice_bandwidth.safety import BOUND
from xapps.slice_bandwidth.state import NS, FleetState, LinkState, SliceState

__all__ = ["SHARED_LINK", "FleetDecision", "decide_fleet", "fleet_decision"]

SHARED_LINK = "SHARED_LINK"
"""Code of a decision that differs from what the node would do by itself, and the layer that it is counted under."""
GRAVEST = (PROTECTION_FIRST, SHARED_LINK)
"""Codes that speak for a whole cycle."""
SILENT_PERIODS = 10
"""A node of a link that has not reported for so long is left out of what the others decide."""


@dataclass(frozen=True)
class FleetDecision:
    """The decisions of one cycle, and one reason for all of them."""

    nodes: tuple[NodeDecision, ...]
    source_time_ns: int
    reason: Reason


@dataclass(frozen=True)
class _Members:
    """The nodes of a link that decide together, those that choose (`free`) first; `slots` (M, 3) each would have."""

    link: LinkState
    states: tuple[SliceState, ...]
    free: int
    slots: NDArray[np.int64]


def decide_fleet(fleet: FleetState, policy: SlicePolicy, learned: Learned | None) -> FleetDecision:
    """Decisions for the nodes that are due, in one batch. Raises what :func:`decision.decide_nodes` raises.

    Nodes of an aggregation link in mode `rl` or `oracle` then settle together what each chose (:mod:`joint`); those
    that are not due keep what they have.
    """
    made = decide_nodes([node for node in fleet.nodes if node.e2_node_id in fleet.due], policy, learned)
    if fleet.links and learned is not None:
        chosen = {node.e2_node_id: node for node in made}
        links = [members for link in fleet.links if (members := _members(link, fleet, policy, chosen)) is not None]
        if links:
            made = list((chosen | _settle_all(links, policy, learned, chosen)).values())
    return fleet_decision(made)


def _members(
    link: LinkState, fleet: FleetState, policy: SlicePolicy, chosen: Mapping[str, NodeDecision]
) -> _Members | None:
    """Who decides together on the link; None where nobody may choose, or nodes do not report at one period."""
    newest_ns = fleet.source_time_ns
    known = [
        state for state in fleet.nodes
        if state.e2_node_id in link.e2_node_ids
        and newest_ns - state.source_time_ns <= SILENT_PERIODS * state.period_s * NS
    ]  # fmt: skip

    def is_free(state: SliceState) -> bool:
        mode = deciding_mode(policy.at(Scope(e2_node_id=state.e2_node_id)).mode, state.period_s)
        return state.e2_node_id in chosen and mode in (Mode.RL, Mode.ORACLE)

    known.sort(key=lambda state: (not is_free(state), state.e2_node_id))  # whoever was heard of first
    free = sum(map(is_free, known))
    if not free or len({state.period_s for state in known}) > 1:
        return None
    slots = [chosen[s.e2_node_id].slots if s.e2_node_id in chosen else s.slots for s in known]
    return _Members(link, tuple(known), free, np.array(slots))


def _settle_all(
    links: Sequence[_Members], policy: SlicePolicy, learned: Learned, chosen: Mapping[str, NodeDecision]
) -> dict[str, NodeDecision]:
    """The decisions of nodes on links, by node; the forecaster runs once, the links share :data:`joint.WORK`."""
    states = [state for members in links for state in members.states]
    policies = [policy.at(Scope(e2_node_id=state.e2_node_id)) for state in states]
    seen, limits = observed(states, policies), stacked_limits(policies)
    loads = scenarios(learned.forecaster, seen.offered_mbps, seen.period_s, seen.alarm)
    out: dict[str, NodeDecision] = {}
    start, work = 0, WORK
    for number, members in enumerate(links):
        nodes = slice(start, start + len(members.states))
        start = nodes.stop
        nodes_seen, few = part_of(seen, limits, nodes)
        together = foresee_nodes(nodes_seen, (loads[0][:, nodes], loads[1][:, nodes]), few)
        held = policies[nodes][: members.free]
        mask = np.stack([
            permitted_of(one, state.slots, alarm=is_protected(state, one))
            for one, state in zip(held, members.states, strict=False)
        ])  # fmt: skip
        link = members.link
        view = LinkView(link.capacity_mbps, link.buffer_mbit, link.queue_mbit)
        share = work // (len(links) - number)
        made, left = settled(view, together, members.slots, mask, share)
        work -= share - left
        whom = helped(view, together, made, members.slots)
        for n, one in enumerate(held):
            alone = chosen[members.states[n].e2_node_id]
            names = [members.states[m].e2_node_id for m in np.flatnonzero(whom[n])]
            out[alone.e2_node_id] = _with_link(alone, one, link, (made, n), names)
    return out


def _with_link(
    alone: NodeDecision, policy: SlicePolicy, link: LinkState, at: tuple[Settled, int], helped_nodes: Sequence[str]
) -> NodeDecision:
    """A node's decision with what its link made of it: who holds back says for whom."""
    made, n = at
    slots = made.slots[n]
    numbers: dict[str, float] = {}
    for name, before, after in zip(SLICES, made.added_alone.sum(axis=0), made.added.sum(axis=0), strict=True):
        numbers |= {f"{name}_link_wait_cost_alone": float(before), f"{name}_link_wait_cost": float(after)}
    details = {"aggregation_link": link.link_id}
    node, code = alone, alone.reason.code
    if not np.array_equal(slots, alone.slots):
        code = code if code == PROTECTION_FIRST else SHARED_LINK
        overrides = (*(layer for layer in alone.overrides if layer != BOUND), SHARED_LINK)
        node = replace(explained(alone.state, policy, slots, code), overrides=overrides)
        numbers |= {f"{name}_flexe_slots_alone": float(count) for name, count in zip(SLICES, alone.slots, strict=True)}
        details["overrides"] = ",".join(overrides)
        if helped_nodes:
            details["held_back_for"] = ",".join(helped_nodes)
    reason = Reason(code, {**node.reason.numbers, **numbers}, {**node.reason.details, **details})
    return replace(node, reason=reason)


def fleet_decision(nodes: Sequence[NodeDecision]) -> FleetDecision:
    """One reason for all: a single node's own; for several, their numbers under node names, the gravest code."""
    newest_ns = max((node.source_time_ns for node in nodes), default=0)
    if len(nodes) == 1:
        return FleetDecision(tuple(nodes), newest_ns, nodes[0].reason)
    codes = [node.reason.code for node in nodes]
    code = next((grave for grave in GRAVEST if grave in codes), codes[0] if codes else "NO_NODE")
    numbers = {f"{node.e2_node_id}/{key}": value for node in nodes for key, value in node.reason.numbers.items()}
    totals = {
        key: sum(node.reason.numbers[key] for node in nodes)
        for key in ("objective_before", "objective_after", "violations_before", "violations_after", "moved_slots")
    }
    details = {
        f"{node.e2_node_id}/held_back_for": node.reason.details["held_back_for"]
        for node in nodes
        if "held_back_for" in node.reason.details
    }
    reason = Reason(code, {**totals, **numbers}, {"nodes": str(len(nodes)), **details})
    return FleetDecision(tuple(nodes), newest_ns, reason)
