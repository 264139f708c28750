"""Several nodes in one cycle: states and decisions side by side, one reason for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ric.decision import Reason
from ric.errors import TwinRicError
from xapps.hems_load.decision import Decision
from xapps.hems_load.fallback import hold_comfort
from xapps.hems_load.optimizer import Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.state import State

__all__ = ["FleetDecision", "FleetState", "decide_fleet", "fall_back_fleet"]


@dataclass(frozen=True)
class FleetState:
    """States of the nodes with something new."""

    nodes: tuple[State, ...]


@dataclass(frozen=True)
class FleetDecision:
    """Decisions of the nodes; `cap_miss_kw` by node where a cap is not kept."""

    nodes: tuple[Decision, ...]
    reason: Reason
    source_time_ns: int

    @classmethod
    def of(cls, nodes: tuple[Decision, ...]) -> FleetDecision:
        """Node decisions under one reason: that of the first node, with the others' numbers beside it by node id."""
        numbers: dict[str, float] = {}
        details: dict[str, str] = {}
        for node in nodes:
            prefix = "" if len(nodes) == 1 else f"{node.node}/"
            numbers |= {prefix + name: value for name, value in node.reason.numbers.items()}
            details |= {prefix + name: value for name, value in node.reason.details.items()}
        missed = [node.reason.code for node in nodes if node.cap_miss_kw > 0]
        code = missed[0] if missed else nodes[0].reason.code
        return cls(nodes, Reason(code, numbers, details), max(node.source_time_ns for node in nodes))


def decide_fleet(
    state: FleetState, policy: HemsPolicy, optimizers: Mapping[str, Optimizer], may_go_on: Callable[[], bool]
) -> FleetDecision:
    """Each node's decision under the policy, or under the defaults where the policy names another node.

    A node whose plan fails gets the safe action, so that it costs the others nothing. Raises TwinRicError SOLVE-FAILED
    when all fail.
    """
    decisions, faults = [], []
    for node in state.nodes:
        own = _in_scope(policy, node)
        try:
            decisions.append(optimizers[node.node].decide(node, own, may_go_on))
        except TwinRicError as error:
            faults.append(error)
            decisions.append(hold_comfort(node, own, Reason("SOLVE_FAILED", details={"fault": str(error)})))
    if len(faults) == len(state.nodes):
        raise faults[0]
    return FleetDecision.of(tuple(decisions))


def fall_back_fleet(state: FleetState, policy: HemsPolicy, reason: Reason) -> FleetDecision:
    """The safe action at every node."""
    return FleetDecision.of(tuple(hold_comfort(node, _in_scope(policy, node), reason) for node in state.nodes))


def _in_scope(policy: HemsPolicy, node: State) -> HemsPolicy:
    return policy if policy.e2_node_id in ("", node.node) else HemsPolicy()
