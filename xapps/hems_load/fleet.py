"""Several nodes in one cycle: states and decisions side by side, one reason for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ric.decision import Reason
from ric.errors import TwinRicError
from ric.scopes import Scope
from xapps.hems_load.decision import Decision
from xapps.hems_load.fallback import hold_comfort
from xapps.hems_load.optimizer import Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State

__all__ = ["FleetDecision", "FleetState", "decide_fleet", "fall_back_fleet", "groups_in_scope", "in_scope"]

KEEPS_PLAN = ("LATE", "SOLVE_FAILED", "DECISION_FAILED")
"""Reasons of a fallback at which the reports are fresh, so that the last plan can go on."""


@dataclass(frozen=True)
class FleetState:
    """States of the nodes with something new."""

    nodes: tuple[State, ...]
    policies: int = 0
    """Version of the policies that hold."""


@dataclass(frozen=True)
class FleetDecision:
    """Decisions of the nodes, under one reason."""

    nodes: tuple[Decision, ...]
    reason: Reason
    source_time_ns: int
    policies: int = 0
    """Version of the policies that it was made under."""

    @classmethod
    def of(cls, nodes: tuple[Decision, ...], policies: int = 0) -> FleetDecision:
        """Node decisions under one reason: that of the first node, with the others' numbers beside it by node id."""
        numbers: dict[str, float] = {}
        details: dict[str, str] = {}
        for node in nodes:
            prefix = "" if len(nodes) == 1 else f"{node.node}/"
            numbers |= {prefix + name: value for name, value in node.reason.numbers.items()}
            # What is said of one home names its node already.
            own = f"{node.node}/"
            details |= {
                name if name.startswith(own) else prefix + name: text for name, text in node.reason.details.items()
            }
        missed = [node.reason.code for node in nodes if node.reason.code == "CAP_MISSED"]
        code = missed[0] if missed else nodes[0].reason.code
        return cls(nodes, Reason(code, numbers, details), max(node.source_time_ns for node in nodes), policies)


def decide_fleet(
    state: FleetState, policy: HemsPolicy, optimizers: Mapping[str, Optimizer], may_go_on: Callable[[float], bool]
) -> FleetDecision:
    """Each node's decision under the policy, or under the defaults where the policy names another node.

    A node whose plan fails follows its last one, or gets the safe action without one, so that it costs the others
    nothing. Raises TwinRicError SOLVE-FAILED when all fail.
    """
    decisions, faults = [], []
    for node in state.nodes:
        own, optimizer = in_scope(policy, node), optimizers[node.node]
        try:
            decisions.append(optimizer.decide(node, own, may_go_on, groups_in_scope(policy, node)))
        except TwinRicError as error:
            faults.append(error)
            why = Reason("SOLVE_FAILED", details={"fault": str(error)})
            kept = optimizer.follow(node, own, why, groups_in_scope(policy, node))
            decisions.append(kept or hold_comfort(node, own, why))
    if len(faults) == len(state.nodes):
        raise faults[0]
    return FleetDecision.of(tuple(decisions), state.policies)


def fall_back_fleet(
    state: FleetState, policy: HemsPolicy, reason: Reason, optimizers: Mapping[str, Optimizer]
) -> FleetDecision:
    """The last plans, shifted to now, where only the decision was late or failed; else every node's safe action."""
    decisions = []
    for node in state.nodes:
        own, optimizer = in_scope(policy, node), optimizers.get(node.node)
        kept = None
        if optimizer is not None and reason.code in KEEPS_PLAN:
            kept = optimizer.follow(node, own, reason, groups_in_scope(policy, node))
        decisions.append(kept or hold_comfort(node, own, reason))
    return FleetDecision.of(tuple(decisions), state.policies)


def in_scope(policy: HemsPolicy, node: State) -> HemsPolicy:
    """What of `policy` holds at the node; one that is for another node leaves the defaults."""
    own = policy.at(Scope(e2_node_id=node.node))
    return own if own.e2_node_id in ("", node.node) else HemsPolicy()


def groups_in_scope(policy: HemsPolicy, node: State) -> dict[str, HemsPolicy]:
    """What policies that name a group of homes ask of each group of the node; groups without any are left out."""
    found = {}
    for name in node.groups:
        own = policy.at(Scope(e2_node_id=node.node, home_group=name), naming="home_group")
        if own.import_cap_kw is not None or own.dr_event is not None:
            found[name] = own
    return found
