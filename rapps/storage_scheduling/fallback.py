"""The safe action: hold the state of charge and keep the reserve. Cannot fail."""

from __future__ import annotations

import numpy as np

from rapps.storage_scheduling.policy import StorageSchedulingPolicy
from rapps.storage_scheduling.scheduler import Decision
from rapps.storage_scheduling.state import State
from ric.decision import Reason

__all__ = ["hold_soc"]


def hold_soc(state: State, policy: StorageSchedulingPolicy, reason: Reason) -> Decision:
    """No charging and no discharging; the policy's share of each unit's power stays reserved."""
    shape = (len(state.unit_ids), len(state.net_kw))
    reserve = np.broadcast_to((policy.reserve_share * state.max_kw)[:, None], shape)
    soc = np.broadcast_to(state.soc[:, None], shape)
    return Decision(
        state.node, state.unit_ids, state.source_time_ns, np.zeros(shape), np.zeros(shape), reserve, soc, None, reason
    )
