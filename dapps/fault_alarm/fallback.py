"""The safe action: an overcurrent and residual-voltage relay (IEC 61850 PTOC, PTOV). Cannot fail."""

from __future__ import annotations

import numpy as np

from dapps.fault_alarm.detector import Decision, Verdict, judge_windows
from dapps.fault_alarm.location import passage_section
from dapps.fault_alarm.model import KINDS, NOMINAL_V
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import FTUS, Samples, State
from ric.decision import Reason

__all__ = ["threshold_relay"]


def threshold_relay(state: State, policy: FaultAlarmPolicy, reason: Reason) -> Decision:
    """Alarms from thresholds alone: PHASE_TO_PHASE and PHASE_TO_GROUND only; blind to arcs and open conductors."""

    def judge(cycle: Samples, reference: Samples) -> Verdict:
        current_a = float(np.sqrt((cycle[:, :3] ** 2).mean(axis=2)).max())
        residual_pu = float(np.sqrt((cycle[:, 3:].sum(axis=1) ** 2).mean(axis=1)).max()) / 3 / (NOMINAL_V / np.sqrt(2))
        kind, section = np.zeros(len(KINDS)), np.zeros(FTUS + 1)
        if residual_pu > policy.residual_voltage_pu:
            kind[KINDS.index("PHASE_TO_GROUND")] = 1.0
        elif current_a > policy.overcurrent_a:
            kind[KINDS.index("PHASE_TO_PHASE")] = 1.0
        else:
            kind[0] = 1.0
        section[0 if kind[0] else max(passage_section(cycle, reference), 1)] = 1.0
        return Verdict(kind, section)

    decision = judge_windows(state, policy, judge)
    return Decision(decision.memory, decision.findings, reason, decision.source_time_ns)
