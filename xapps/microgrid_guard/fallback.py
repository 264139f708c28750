"""The safe action: without a twin, hold the last good contribution factor of a silent or wild agent, and alarm.

R stands in for the twin: healthy agents rest at it, and load steps move them from it for less than tau. The value that
stands in for an agent is its own last good one, not R, so that sharing stays as it was. Cannot fail.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ric.decision import Reason
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.policy import GuardPolicy, policies_of
from xapps.microgrid_guard.state import NodeMemory, Sample, State
from xapps.microgrid_guard.takeover import Decision, NodeOutcome, decided, held_table, judged_by_r

__all__ = ["hold_last_good"]


def hold_last_good(state: State, policy: GuardPolicy, reason: Reason, config: GuardConfig) -> Decision:
    """Judge what has come with last good values; where nothing has come, renew the substitutions that stand."""

    def judge(sample: Sample, memory: NodeMemory, continuous: bool) -> tuple[NodeMemory, NodeOutcome]:
        return judged_by_r(sample, memory, continuous, policy)

    decision = decided(state, judge, config, reason)
    if decision.outcomes:
        return decision
    age_ns = round(reason.numbers.get("age_s", 0.0) * 1e9)
    renewed = (_renewed(node, memory, memory.time_ns + age_ns, policy) for node, memory in state.memories.items())
    return replace(decision, outcomes=tuple(outcome for outcome in renewed if outcome is not None))


def _renewed(node: str, memory: NodeMemory, now_ns: int, policy: GuardPolicy) -> NodeOutcome | None:
    """The node's standing substitutions once more, for `hold_s` from now; None where there are none. Its twin stays."""
    watch, policies = memory.watch, policies_of(policy, node, memory.ids)
    stage = (watch.alarm_ns > 0).astype(np.float64) + watch.in_consensus
    rows = np.flatnonzero((stage > 0) & policies.take_over)
    if not rows.size:
        return None
    table = held_table(memory.ids, rows, memory.last_good, stage, memory.time_ns)
    return NodeOutcome(node, memory.time_ns, None, table, now_ns + int(policies.hold_ns.max()), (), 0)
