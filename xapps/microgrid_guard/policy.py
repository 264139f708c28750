"""The A1 policy type `twinric_microgrid_guard_1.0.0`: what an operator tunes while the xApp runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ric.scopes import Scope, ScopedPolicy

__all__ = ["POLICY_TYPE_ID", "AgentPolicies", "GuardPolicy", "policies_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

POLICY_TYPE_ID = "twinric_microgrid_guard_1.0.0"


class GuardPolicy(ScopedPolicy):
    """When an agent counts as attacked, and when the twin stands in for it."""

    mode: Literal["take_over", "alarm_only"] = "take_over"
    """`take_over`: the twin stands in for an attacked agent; `alarm_only`: alarms, and no substitution."""
    threshold: float = Field(default=0.2, ge=0.02, le=1)
    """TH of (22): error between agent and twin that counts [1], 0.02..1. High misses, low alarms at transients."""
    tau_s: float = Field(default=1.0, ge=0.1, le=60)
    """How long the error must last before the alarm and the first stage [s], 0.1..60."""
    consensus_delay_s: float = Field(default=4.0, ge=0, le=600)
    """From the first stage, the local controller, to the second, the consensus [s], 0..600."""
    release_ratio: float = Field(default=0.5, gt=0, le=1)
    """Share of `threshold` below which the agent agrees with the twin again [1], above 0 up to 1."""
    release_s: float = Field(default=2.0, ge=0.1, le=600)
    """How long it must be alive and agree before it is back in charge and the alarm clears [s], 0.1..600."""
    dominance: float = Field(default=0.5, ge=0, le=1)
    """An agent is suspected only if its error is at least this share of the largest one [1]; its neighbours err too."""
    use_liveness: bool = True
    """Suspect an agent while its node reports no messages from it, too: finds a DoS at factors below TH."""
    hold_s: float = Field(default=120.0, ge=0.2, le=3_600)
    """How long a node keeps a substitution that is not renewed [s], 0.2..3,600; above its coarsest report period."""


@dataclass(frozen=True)
class AgentPolicies:
    """What holds for each of a node's M agents; arrays (M,), fields as in :class:`GuardPolicy`, times in ns."""

    take_over: Bools
    threshold: Floats
    tau_ns: Floats
    consensus_delay_ns: Floats
    release_ratio: Floats
    release_ns: Floats
    dominance: Floats
    use_liveness: Bools
    hold_ns: Floats


def policies_of(policy: GuardPolicy, node: str, ids: tuple[str, ...]) -> AgentPolicies:
    """The policies of the agents of microgrids `ids` (M,) at E2 node `node`."""
    rows = [policy.at(Scope(e2_node_id=node, microgrid=name)) for name in ids]

    def seconds(name: str) -> Floats:
        return np.round(np.array([getattr(row, name) for row in rows]) * 1e9)

    return AgentPolicies(
        take_over=np.array([row.mode == "take_over" for row in rows], dtype=np.bool_),
        threshold=np.array([row.threshold for row in rows]),
        tau_ns=seconds("tau_s"),
        consensus_delay_ns=seconds("consensus_delay_s"),
        release_ratio=np.array([row.release_ratio for row in rows]),
        release_ns=seconds("release_s"),
        dominance=np.array([row.dominance for row in rows]),
        use_liveness=np.array([row.use_liveness for row in rows], dtype=np.bool_),
        hold_ns=seconds("hold_s"),
    )
