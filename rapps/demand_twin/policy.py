"""What an operator tunes while the demand twin runs: its A1 policy type."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ric.scopes import ScopedPolicy

__all__ = ["POLICY_TYPE_ID", "DemandTwinPolicy"]

POLICY_TYPE_ID = "twinric_demand_twin_1.0.0"


class DemandTwinPolicy(ScopedPolicy):
    """How far and by which method demand is forecast."""

    horizon_h: int = Field(default=48, ge=1, le=48)
    """Length of the 15-min forecast [h], 1..48. Acts on the next forecast."""
    method: Literal["lstm", "seasonal_naive"] = "lstm"
    """`lstm`: the trained twin; `seasonal_naive`: yesterday's course, as the safe action makes it."""
    one_minute: bool = True
    """Whether the 1-min forecast of the next hour is made too."""
