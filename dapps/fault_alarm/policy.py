"""What an operator tunes while the fault alarm runs: its A1 policy type."""

from __future__ import annotations

from pydantic import Field

from ric.scopes import ScopedPolicy

__all__ = ["POLICY_TYPE_ID", "FaultAlarmPolicy"]

POLICY_TYPE_ID = "twinric_fault_alarm_1.0.0"


class FaultAlarmPolicy(ScopedPolicy):
    """Sensitivity of the classifier, and the relay settings of the safe action."""

    fault_probability: float = Field(default=0.8, ge=0.5, le=0.999)
    """Probability from which a window counts as faulty [1]. Low finds weak faults, high avoids false alarms."""
    confirm_windows: int = Field(default=2, ge=1, le=20)
    """Faulty windows in a row that raise the alarm [window]; each is one indication, 5 ms by default."""
    kind_probability: float = Field(default=0.95, ge=0.2, le=0.999)
    """Probability [1] of the likeliest kind below which the alarm waits: arcs start as earth faults do."""
    kind_windows: int = Field(default=6, ge=1, le=100)
    """Faulty windows in a row [window] after which the alarm names the likeliest kind all the same."""
    clear_windows: int = Field(default=40, ge=1, le=2_000)
    """Sound windows in a row that clear it [window]."""
    overcurrent_a: float = Field(default=600.0, gt=0, le=100_000)
    """Phase current that the safe action takes for a short circuit [A rms], PTOC."""
    residual_voltage_pu: float = Field(default=0.2, gt=0, le=2)
    """Residual voltage that the safe action takes for an earth fault [pu of the nominal phase voltage], PTOV."""
